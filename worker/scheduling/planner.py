"""Plan the next pop: models, size and number of images, for the engine that will be free first."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

from loguru import logger

from worker.bounded_dict import BoundedDict
from worker.clock import Clock, monotonic
from worker.config.schema import BridgeData
from worker.engine.pool import EnginePool
from worker.engine.slot import EngineSlot
from worker.jobs.inputs import ModelSource
from worker.jobs.job import JobEvent, Stage
from worker.scheduling.device_limits import DeviceLimits, MaxPixelsRotation, stick, withdrawn_everywhere
from worker.scheduling.estimates import Estimates
from worker.scheduling.estimates.estimates import BatchLimit
from worker.scheduling.offer import PopPlan

#: Seconds before an engine runs dry in which its next job is popped, at least; by the owner's performance mode.
LEAD_S, MODERATE_LEAD_S, HIGH_LEAD_S = 3.0, 6.0, 10.0
#: Reasons for small batches remembered as told.
MOST_TOLD = 100


@dataclass(frozen=True)
class Capacity:
    """How many jobs the engines can take."""

    #: engines that take jobs
    engines: int
    #: jobs that may wait besides
    queue: int
    #: seconds until the first engine has nothing to do, as far as known
    idle_in_s: float
    #: seconds before that in which the next job is popped, at least; three times the time of a pop if that is longer
    lead_s: float = LEAD_S


@dataclass(frozen=True)
class _Prospect:
    """What may be asked for on a device, for the slot of it that is free first."""

    slot: EngineSlot
    start_s: float
    device: DeviceLimits


@dataclass(eq=False)
class Planner:
    """Subscribe `note` to the job events."""

    config: Callable[[], BridgeData]
    models: ModelSource
    pool: EnginePool
    estimates: Estimates
    _: KW_ONLY
    #: gives those of some models to offer now
    choice: Callable[[Sequence[str]], Sequence[str]] = tuple
    rotation: MaxPixelsRotation = field(default_factory=MaxPixelsRotation)
    roll: Callable[[], float] = random.random
    clock: Clock = monotonic
    #: models that are here and offered for no device, with the reason
    withdrawn: dict[str, str] = field(default_factory=dict, init=False)
    #: the last pop that was planned brought a job
    _fruitful: bool = field(default=False, init=False)
    _batch_reasons: BoundedDict[str, None] = field(default_factory=lambda: BoundedDict(MOST_TOLD), init=False)

    def capacity(self) -> Capacity:
        """How many jobs the engines can take now."""
        open_slots, config = self.pool.offered_slots, self.config()
        idle = self.estimates.idle_in_s([slot.number for slot in open_slots])
        devices = len({slot.settings.device for slot in open_slots})
        lead_s = LEAD_S
        if config.high_performance_mode or config.moderate_performance_mode:
            lead_s = HIGH_LEAD_S if config.high_performance_mode else MODERATE_LEAD_S
        return Capacity(len(open_slots), devices * config.queue_size, min(idle.values(), default=0.0), lead_s)

    def plan(self, asking: int = 0) -> PopPlan | None:
        """The next pop, with `asking` pops under way; None if nothing can be served."""
        now = self.clock()
        prospects = self._prospects(asking)
        if not asking:
            # Of slots that are free first: what one can do that is busy for long says little.
            self._tell(withdrawn_everywhere(prospect.device for prospect in prospects))
        chosen = self.choice([name for name in self.models.names() if name not in self.withdrawn])
        prospects = [replace(prospect, device=prospect.device.among(chosen)) for prospect in prospects]
        useful = [prospect for prospect in prospects if prospect.device.sizes()]
        if not asking:
            self._advance(useful, now)
        size = self.rotation.current
        largest = self.rotation.largest_in_force(size, now)
        for prospect in useful:
            if models := prospect.device.able(largest):
                return self._plan(prospect, models, size, largest, now)
        return None

    def size_forgotten_in_s(self) -> float:
        """Seconds until the Horde goes by no size any more that is larger than what is asked for now."""
        now = self.clock()
        return self.rotation.in_force_until(self.rotation.current, now) - now

    def note(self, event: JobEvent) -> None:
        if event.stage is Stage.POPPED:
            self._fruitful = True

    def _prospects(self, asking: int) -> list[_Prospect]:
        """One for each device; first that of the slot which a pop is for, past those for which one is under way."""
        open_slots = {slot.number: slot for slot in self.pool.offered_slots}
        idle = self.estimates.idle_in_s(open_slots)
        order = sorted(open_slots, key=lambda number: (idle[number], open_slots[number].taken, number))
        past = asking % max(1, len(order))
        found: dict[str, _Prospect] = {}
        for number in order[past:] + order[:past]:
            slot = open_slots[number]
            if slot.settings.device not in found:
                found[slot.settings.device] = _Prospect(slot, idle[number], self._limits_of(slot, idle[number]))
        return list(found.values())

    def _limits_of(self, slot: EngineSlot, start_s: float) -> DeviceLimits:
        max_pixels = slot.settings.max_pixels or self.config().max_pixels
        names = tuple(name for name in self.models.names() if slot.settings.serves(name))
        limits = {}
        for name in names:
            if model := self.models.model(name):
                limit = self.estimates.size_limit(model, slot.settings.device, max_pixels=max_pixels, start_s=start_s)
                if limit:
                    limits[name] = limit
        return DeviceLimits(names, limits, max_pixels)

    def _advance(self, useful: list[_Prospect], now: float) -> None:
        if useful:
            self.rotation.advance(
                {size for prospect in useful for size in prospect.device.sizes()},
                max(prospect.device.max_pixels for prospect in useful),
                now,
                # A size brings nothing to a free slot that can't do it, whatever it brings to others.
                fruitful=self._fruitful and bool(useful[0].device.able(self.rotation.current)),
            )

    def _plan(self, prospect: _Prospect, models: tuple[str, ...], size: int, largest: int, now: float) -> PopPlan:
        slot, config = prospect.slot, self.config()
        stickiness, self._fruitful = config.model_stickiness if self._fruitful else 0.0, False
        models = stick(models, slot.models, stickiness=stickiness, roll=self.roll())
        batch = self._batch_limit(models, slot, prospect.start_s, largest)
        self._tell_batch(batch)
        self.rotation.note_sent(size, now)
        return PopPlan(models, size, batch.images, threads=len(self.pool.offered_slots))

    def _batch_limit(self, names: Iterable[str], slot: EngineSlot, start_s: float, pixels: int) -> BatchLimit:
        """The model that can do the fewest images at once decides, for any may come."""
        device, most = slot.settings.device, self.config().max_batch
        return min(
            (
                self.estimates.batch_limit(model, device, pixels=pixels, start_s=start_s, most=most)
                for name in names
                if (model := self.models.model(name))
            ),
            key=lambda limit: limit.images,
            default=BatchLimit(1, ""),
        )

    def _tell_batch(self, batch: BatchLimit) -> None:
        """Say why jobs have fewer images than the owner allows, once for each reason."""
        most = self.config().max_batch
        if batch.images < most and batch.reason and batch.reason not in self._batch_reasons:
            self._batch_reasons[batch.reason] = None
            logger.bind(action="batch_limited").info(
                "Jobs of {} instead of {} images are asked for (max_batch): {}.", batch.images, most, batch.reason
            )

    def _tell(self, reasons: dict[str, str]) -> None:
        for name, reason in reasons.items():
            if name not in self.withdrawn:
                logger.bind(action="model_withdrawn", model=name).warning("{} is not offered: {}.", name, reason)
        for name in self.withdrawn.keys() - reasons.keys():
            logger.bind(action="model_offered", model=name).info("{} is offered again.", name)
        self.withdrawn = reasons
