"""What the next pop asks for: which models, how large, how many, for the engine that will be free first.

Learns from what becomes of jobs: how fast models are, which break engines, how much memory they take and at which size
it runs out.
"""

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from loguru import logger

from worker.config.schema import BridgeData
from worker.engine.events import MemoryNeed
from worker.engine.pool import EnginePool, Rendering, RenderTask
from worker.engine.slot import EngineSlot
from worker.engine.stall_detector import FIRST_MARGIN, Phase
from worker.errors import EngineError, ModelBroken, OutOfMemory
from worker.jobs.inputs import ModelSource
from worker.jobs.job import JobEvent, Stage
from worker.scheduling.device_limits import Assortment, Limit, stick, tightest, withheld
from worker.scheduling.estimates.cooldowns import Ceilings, Quarantine
from worker.scheduling.estimates.forecast import Forecast
from worker.scheduling.estimates.memory import MemoryNeeds
from worker.scheduling.estimates.ttl import Outlook
from worker.scheduling.intake import Room
from worker.scheduling.max_pixels_rotation import Sizes

#: A model that was too slow to be in time is tried again so often: what slowed the machine may be gone.
ANOTHER_CHANCE_S = 3600.0
#: How long before an engine runs dry its next job is fetched, at least, by the owner's mode.
LEAD_S, MODERATE_LEAD_S, HIGH_LEAD_S = 3.0, 6.0, 10.0
#: An extra slow machine stands still for so many times longer.
EXTRA_SLOW_PATIENCE = 3.0


def stall_limits_s(config: BridgeData) -> dict[Phase, float]:
    """The owner's time-outs by what an engine does."""
    slowness = EXTRA_SLOW_PATIENCE if config.extra_slow_worker else 1.0
    return {
        # Of a load never seen before, as much as an engine may say nothing at all.
        Phase.LOADING: slowness * max(config.preload_timeout, config.process_timeout / FIRST_MARGIN),
        Phase.STEPPING: slowness * config.inference_step_timeout,
        Phase.FINISHING: slowness * config.post_process_limit_s,
    }


@dataclass(frozen=True)
class Wish:
    """What to ask for. `max_pixels` is width times height."""

    models: tuple[str, ...]
    max_pixels: int
    #: images of one job
    amount: int
    threads: int


@dataclass(frozen=True)
class _Prospect:
    """What may be asked for on a device, for the slot of it that is free first."""

    slot: EngineSlot
    start_s: float
    card: Assortment


class Planner:
    """Subscribe `note` to the job events, `engine_failed` and `memory_taken` to what the pool tells."""

    def __init__(
        self,
        config: Callable[[], BridgeData],
        models: ModelSource,
        pool: EnginePool,
        forecast: Forecast,
        *,
        roll: Callable[[], float] = random.random,
        quarantine: Quarantine | None = None,
        ceilings: Ceilings | None = None,
    ) -> None:
        self._config = config
        self._models = models
        self._pool = pool
        self._forecast = forecast
        self._roll = roll
        self._quarantine = quarantine or Quarantine()
        self._ceilings = ceilings or Ceilings()
        self._needs = MemoryNeeds()
        self._sizes = Sizes()
        #: of models too slow for a device, when they are tried there again
        self._chances: dict[tuple[str, str], float] = {}
        #: the last wish brought a job
        self._healthy = False
        #: models that are here and offered for no device, with the reason
        self.withdrawn: dict[str, str] = {}

    def room(self) -> Room:
        """What the engines can take."""
        ready, config = self._pool.offered_slots, self._config()
        idle = self._forecast.idle_in_s([slot.number for slot in ready])
        devices = len({slot.settings.device for slot in ready})
        lead_s = LEAD_S
        if config.high_performance_mode or config.moderate_performance_mode:
            lead_s = HIGH_LEAD_S if config.high_performance_mode else MODERATE_LEAD_S
        return Room(len(ready), devices * config.queue_size, min(idle.values(), default=0.0), lead_s)

    def wish(self, asking: int = 0) -> Wish | None:
        """What to ask for besides `asking` pops that are under way; None when nothing can be served."""
        now = time.monotonic()
        prospects = self._prospects(asking, now)
        useful = [prospect for prospect in prospects if prospect.card.sizes()]
        if not asking:
            # Of slots that are free first: what one can do that is busy for long says little.
            self._tell(withheld(prospect.card for prospect in prospects))
            self._turn(useful, now)
        size = self._sizes.current
        reach = self._sizes.reach(size, now)
        for prospect in useful:
            if models := prospect.card.able(reach):
                return self._wish(prospect, models, size, reach, now)
        return None

    def note(self, event: JobEvent) -> None:
        model = event.job.pop.model
        match event.stage:
            case Stage.POPPED:
                self._healthy = True
                for kind in self._chances:
                    if kind[0] == model:
                        self._chances[kind] = time.monotonic() + ANOTHER_CHANCE_S
            case Stage.DELIVERING:
                self._quarantine.succeeded(model)

    def engine_failed(self, slot: EngineSlot, task: RenderTask, error: EngineError) -> None:
        """An engine that had begun with a task failed it."""
        now = time.monotonic()
        if isinstance(error, OutOfMemory):
            device = slot.settings.device
            self._ceilings.ran_out(task.model, device, now, pixels=task.pixels, batch=task.batch)
        elif error.restarts_engine or isinstance(error, ModelBroken):
            self._quarantine.failed(task.model, now, error.message.splitlines()[0])

    def memory_taken(self, slot: EngineSlot, task: RenderTask, rendering: Rendering, need: MemoryNeed) -> None:
        """An engine told what a rendering that succeeded took of its card."""
        self._needs.learn(
            task.model,
            slot.settings.device,
            time.monotonic(),
            pixels=task.pixels * rendering.count,
            evaluations=rendering.evaluations,
            need=need,
        )

    def fits(self, slot: EngineSlot, task: RenderTask) -> bool:
        """Whether the slot's card has the memory that the task needs, as far as known."""
        kind, now = (task.model, slot.settings.device), time.monotonic()
        ceiling, images = self._ceilings.limit_of(*kind, now), self._ceilings.images(*kind, now)
        if (ceiling and task.pixels > ceiling.pixels) or (images and task.batch > images):
            return False
        return self._needs.limit_of(*kind, now, wanted=task.pixels * task.batch) is None

    def _prospects(self, asking: int, now: float) -> list[_Prospect]:
        """One for each device; first that of the slot which a pop is for, past those for which one is under way."""
        ready = {slot.number: slot for slot in self._pool.offered_slots}
        idle = self._forecast.idle_in_s(ready)
        order = sorted(ready, key=lambda number: (idle[number], ready[number].taken, number))
        past = asking % max(1, len(order))
        found: dict[str, _Prospect] = {}
        for number in order[past:] + order[:past]:
            slot = ready[number]
            if slot.settings.device not in found:
                found[slot.settings.device] = _Prospect(slot, idle[number], self._card(slot, idle[number], now))
        return list(found.values())

    def _card(self, slot: EngineSlot, start_s: float, now: float) -> Assortment:
        max_pixels = slot.settings.max_pixels or self._config().max_pixels
        names = tuple(name for name in self._models.names() if slot.settings.serves(name))
        return Assortment(names, self._limits(names, slot.settings.device, start_s, max_pixels, now), max_pixels)

    def _turn(self, useful: list[_Prospect], now: float) -> None:
        if useful:
            self._sizes.turn(
                {size for prospect in useful for size in prospect.card.sizes()},
                max(prospect.card.max_pixels for prospect in useful),
                now,
                # A size brings nothing to a free slot that can't do it, whatever it brings to others.
                fruitful=self._healthy and bool(useful[0].card.able(self._sizes.current)),
            )

    def _wish(self, prospect: _Prospect, models: tuple[str, ...], size: int, reach: int, now: float) -> Wish:
        slot, config = prospect.slot, self._config()
        stickiness, self._healthy = config.model_stickiness if self._healthy else 0.0, False
        models = stick(models, slot.models, stickiness=stickiness, roll=self._roll())
        amount = min(self._images(name, slot.settings.device, prospect.start_s, reach, now) for name in models)
        self._sizes.name(size, now)
        return Wish(models, size, amount, threads=len(self._pool.offered_slots))

    def _outlook(self, name: str, start_s: float) -> Outlook | None:
        model = self._models.model(name)
        if model is None:
            return None
        return Outlook(model.family, self._forecast.unit_s(model), start_s, self._config().extra_slow_worker)

    def _limits(
        self, names: Iterable[str], device: str, start_s: float, max_pixels: int, now: float
    ) -> dict[str, Limit]:
        found: dict[str, Limit] = {}
        for name in names:
            limit = tightest((
                self._quarantine.limit_of(name, now),
                self._ceilings.limit_of(name, device, now),
                self._needs.limit_of(name, device, now, wanted=max_pixels),
                self._too_slow(name, device, start_s, max_pixels, now),
            ))  # fmt: skip
            if limit and limit.pixels < max_pixels:
                found[name] = limit
        return found

    def _too_slow(self, name: str, device: str, start_s: float, max_pixels: int, now: float) -> Limit | None:
        outlook = self._outlook(name, start_s)
        if outlook is None or (pixels := outlook.largest_pixels(max_pixels)) == max_pixels:
            self._chances.pop((name, device), None)
            return None
        if now >= self._chances.setdefault((name, device), now + ANOTHER_CHANCE_S):
            return None
        return Limit(pixels, f"a larger picture takes longer than the Horde gives, at {outlook.unit_s:.1f} s a unit")

    def _images(self, name: str, device: str, start_s: float, pixels: int, now: float) -> int:
        fitting = (self._ceilings.images(name, device, now), self._needs.images(name, device, now, pixels=pixels))
        most = min((self._config().max_batch, *(images for images in fitting if images)))
        outlook = self._outlook(name, start_s)
        return outlook.most_images(pixels, most) if outlook else 1

    def _tell(self, reasons: dict[str, str]) -> None:
        for name, reason in reasons.items():
            if name not in self.withdrawn:
                logger.bind(action="model_withdrawn", model=name).warning("{} is not offered: {}.", name, reason)
        for name in self.withdrawn.keys() - reasons.keys():
            logger.bind(action="model_offered", model=name).info("{} is offered again.", name)
        self.withdrawn = reasons
