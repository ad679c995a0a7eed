"""All engines of this machine: which one renders a job, and what happens to a job whose engine fails.

A job takes a place in a slot, renders, and gives the place back. A slot has one place more than it renders at a time,
so that the next graph is in the engine's queue before the current one ends. Places are given in the order of arrival:
an idle slot before a busy one, and among equals the one that has the job's model in memory.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from loguru import logger

from worker.after_fault import SetsAside, after_fault
from worker.aio import TaskGroup, end_all, ungrouped
from worker.engine.card_watch import CARD_CHECK_S, CardWatch
from worker.engine.events import Progress
from worker.engine.nan_evidence import NanEvidence
from worker.engine.nan_log import NanLog
from worker.engine.process import EngineProcess, EngineSettings
from worker.engine.render_task import Conditions, PoolEstimates, RenderRetries, RenderTask
from worker.engine.slot import EngineSlot, SlotState
from worker.engine.stall_detector import StallWatch
from worker.errors import Blame, EngineError, EngineStartFailed, ImageNotFinite, Retry
from worker.images import RawImage
from worker.process.supervisor import RestartPolicy

#: Places per slot: one prompt renders, one waits in the engine.
PLACES_PER_SLOT = 2
#: Models that a sentence names at most.
MOST_NAMED = 3
#: Blame that is reported even if the engine refused the graph before it began.
FILES_BLAMED = frozenset({Blame.ADDITION, Blame.MODEL_FILE})


@dataclass(frozen=True)
class _PlaceRequest:
    """A job that waits for a place in a slot."""

    task: RenderTask
    #: the slot that just failed it
    avoid: EngineSlot | None
    place: "asyncio.Future[EngineSlot]"


class _Watched:
    """A task during one try: notes when the engine began it."""

    def __init__(self, task: RenderTask) -> None:
        #: on the event loop's clock; None: not yet
        self.begun_at: float | None = None
        self._on_progress = task.on_progress
        self.task = replace(task, on_progress=self._note)

    def _note(self, progress: Progress) -> None:
        if self.begun_at is None:
            self.begun_at = asyncio.get_running_loop().time()
        self._on_progress(progress)


class EnginePool:
    """Slots with their engines. Use inside `async with pool.running():`."""

    def __init__(
        self,
        settings: Sequence[EngineSettings],
        *,
        retry: RenderRetries | None = None,
        estimates: PoolEstimates | None = None,
        restarts: Callable[[], RestartPolicy] = RestartPolicy,
        silence_limit_s: float | None = None,
        card_check_s: float = CARD_CHECK_S,
    ) -> None:
        self.slots = [
            EngineSlot(number, each, restarts(), silence_limit_s=silence_limit_s, on_change=self._on_change)
            for number, each in enumerate(settings, start=1)
        ]
        self._retry = retry or RenderRetries()
        self._estimates = estimates or PoolEstimates()
        self._nan = NanEvidence()
        self._waiting: deque[_PlaceRequest] = deque()
        self._changed = asyncio.Event()
        self._lives: list[asyncio.Task[None]] = []
        # Who waits for a card that is not in use may have another choice after each look.
        self._cards = CardWatch(lambda: self.ready_slots, on_look=self._serve_waiting, interval_s=card_check_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["EnginePool"]:
        """Engines start in the background on entry and are stopped on exit."""
        with ungrouped():
            async with TaskGroup() as group:
                self._lives = [group.create_task(slot.run(), name=f"engine-{slot.number}") for slot in self.slots]
                self._lives.append(group.create_task(self._cards.run(), name="cards"))
                try:
                    yield self
                finally:
                    await self.aclose()

    async def aclose(self) -> None:
        """Stop all engines; they have ended when this returns."""
        await end_all(self._lives)

    async def ready(self) -> EngineSlot:
        """The first slot that is ready. Raises EngineStartFailed when no slot seems able to start its engine."""
        while True:
            for slot in self.slots:
                if slot.state is SlotState.READY:
                    return slot
            if all(slot.never_starts for slot in self.slots):
                raise EngineStartFailed(str(self.slots[0].reason), remedy=f"See {self.slots[0].settings.log_file}.")
            self._changed.clear()
            await self._changed.wait()

    def give_settings(self, settings: Sequence[EngineSettings]) -> bool:
        """Give each slot new settings for its next engine; nothing where they are meant for other slots than there are.

        Returns whether they were given.
        """
        if [slot.settings.device for slot in self.slots] != [each.device for each in settings]:
            logger.bind(action="engines_unchanged").warning(
                "These settings make another number of engines ({} in place of {}), which counts only after a restart "
                "of the worker; until then the engines keep the settings they have.",
                len(settings),
                len(self.slots),
            )
            return False
        for slot, each in zip(self.slots, settings, strict=True):
            slot.settings = each
        return True

    def renew(self) -> None:
        """Replace all engines by those of the settings in force now, each as soon as it has no job."""
        for slot in self.slots:
            slot.renew()

    def forgive(self) -> None:
        """Forget that slots could not start their engines: they start others now."""
        for slot in self.slots:
            slot.forgive()

    @property
    def shortages(self) -> Mapping[str, str]:
        """Devices that get no more jobs for now, with the reason."""
        return self._cards.shortages

    @property
    def ready_slots(self) -> list[EngineSlot]:
        return [slot for slot in self.slots if slot.state is SlotState.READY]

    @property
    def offered_slots(self) -> list[EngineSlot]:
        """Slots that take jobs: ready, and on a card that other programs leave enough memory of."""
        return [
            slot for slot in self.ready_slots if _places(slot) and slot.settings.device not in self._cards.shortages
        ]

    async def render(self, task: RenderTask) -> list[RawImage]:
        """Render on some slot; once more after a failure that another try may mend, if the deadline allows.

        Raises the EngineError of the last try.
        """
        loop = asyncio.get_running_loop()
        conditions = Conditions()
        failed: EngineSlot | None = None
        begun = 0
        nan_on: set[EngineSlot] = set()
        for attempt in range(1, self._retry.most_attempts + 1):
            async with self._place(task, avoid=failed) as slot:
                task.on_placed(slot.number)
                watched, process = _Watched(task), slot.process
                try:
                    images = await self._render_on(slot, watched.task, conditions)
                except EngineError as error:
                    now, took_s = loop.time(), 0.0
                    if watched.begun_at is not None:
                        # A broken addition fails within milliseconds: such a try does not count.
                        begun += after_fault(error).retry is not Retry.WITHOUT
                        took_s = now - watched.begun_at
                        self._estimates.engine_failed(slot, task, error)
                    if watched.begun_at is not None or error.blame in FILES_BLAMED:
                        task.on_failed(error)
                    how = self._retry.next_try(error, attempt=begun, took_s=took_s, left_s=task.deadline - now)
                    is_nan = after_fault(error).sets_aside is SetsAside.MODEL_OR_ENGINE
                    if is_nan and task.additions - conditions.without:
                        # What the job names is suspected first: the next try tells, and no engine answers for it.
                        how = Retry.WITHOUT if how is Retry.SAME else how
                    else:
                        if is_nan and slot not in nan_on:
                            nan_on.add(slot)
                            self._weigh_nan(slot, process, task)
                        slot.failed(error, of=process)
                    if how is Retry.NO or attempt == self._retry.most_attempts:
                        raise
                    conditions = conditions.after(how, error, task)
                    # An addition fails on every engine, and this one has the model in memory.
                    failed = None if how is Retry.WITHOUT else slot
                    logger.bind(action="render_retry", slot=slot.number, retry=how.value).warning(
                        "Engine {} failed a job, trying again: {}", slot.number, error
                    )
                else:
                    slot.succeeded()
                    self._nan.rendered(slot.number, task.model, loop.time())
                    return images
        raise AssertionError("the last attempt returns or raises")

    def _weigh_nan(self, slot: EngineSlot, process: EngineProcess | None, task: RenderTask) -> None:
        """Set an engine aside that gives NaN whatever the model, for jobs without additions."""
        if models := sorted(self._nan.failed(slot.number, task.model, asyncio.get_running_loop().time())):
            self._estimates.models_cleared(models)
            reason = ImageNotFinite(
                f"It computed nothing but NaN for jobs in a row, with {' and '.join(models[:MOST_NAMED])}, "
                "where the models are not to blame.",
                remedy="Undo overclocking and speed flags, look at the card's driver, cooling and power.",
            )
            slot.set_aside(reason, of=process)

    async def _render_on(self, slot: EngineSlot, task: RenderTask, conditions: Conditions) -> list[RawImage]:
        client = slot.client
        slot.uses(task.model)
        if conditions.save_memory:
            await client.free()
        try:
            for key, picture in task.pictures.items():
                await client.put_input(key, picture)
            images: list[RawImage] = []
            nan_log = None if client.has_node_pack or slot.process is None else NanLog(slot.process.settings.log_file)
            for each in task.prepare(conditions._replace(has_node_pack=client.has_node_pack)):
                images += await client.render(
                    each.graph,
                    each.outputs,
                    expected=each.count,
                    on_progress=task.on_progress,
                    on_memory=partial(self._estimates.memory_taken, slot, task, each),
                    watch=self._watch(task, each.count),
                )
            if nan_log:
                await nan_log.check(images)
            return images
        finally:
            await client.drop_inputs(task.pictures.keys())

    def _watch(self, task: RenderTask, images: int) -> StallWatch | None:
        stall_limits = self._estimates.stall_limits
        return StallWatch(stall_limits, task.model, task.pixels * images / 1e6) if stall_limits else None

    # Places

    @asynccontextmanager
    async def _place(self, task: RenderTask, *, avoid: EngineSlot | None) -> AsyncIterator[EngineSlot]:
        """Hold a place in a slot during the block, with a fresh engine where the owner wants one for each model."""
        slot = await self._take(task, avoid=avoid)
        try:
            if slot.recycle_for(task.model):
                # An engine that does not start fails the task, as any that is gone.
                while slot.state is SlotState.STARTING:
                    self._changed.clear()
                    await self._changed.wait()
            yield slot
        finally:
            self._give_back(slot)

    async def _take(self, task: RenderTask, *, avoid: EngineSlot | None = None) -> EngineSlot:
        """Take a place in the best slot; in `avoid` only while no other is ready."""
        request = _PlaceRequest(task, avoid, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        # An earlier request may wait for a slot that does not suit this one, or the other way round.
        self._serve_waiting()
        try:
            return await request.place
        except asyncio.CancelledError:
            if request.place.done() and not request.place.cancelled():
                self._give_back(request.place.result())
            raise

    def _give_back(self, slot: EngineSlot) -> None:
        slot.taken -= 1
        slot.recycle_if_due()
        self._serve_waiting()

    def _best(self, request: _PlaceRequest) -> EngineSlot | None:
        """The best slot with a free place: an idle one, then the one idle first; of equals the one with the model.

        An idle slot beats one that has the model but is busy: loading costs less than waiting for a whole job.
        """
        ready, task = self.ready_slots, request.task
        suitable = [slot for slot in ready if slot.settings.takes(task.model, task.pixels)] or ready
        suitable = [slot for slot in suitable if slot.settings.device not in self._cards.shortages] or suitable
        suitable = [slot for slot in suitable if self._estimates.fits(slot, task)] or suitable
        suitable = [slot for slot in suitable if slot is not request.avoid] or suitable
        free = [slot for slot in suitable if slot.taken < _places(slot)]
        idle = self._estimates.work_in_s([slot.number for slot in free])
        return min(
            free,
            key=lambda slot: (
                slot.taken,
                round(idle[slot.number]) if slot.taken else 0,
                slot.distance_to(task.model),
                slot.number,
            ),
            default=None,
        )

    def _serve_waiting(self) -> None:
        """Give free places to waiting requests in order, past those that no free place suits."""
        unserved: deque[_PlaceRequest] = deque()
        while self._waiting:
            request = self._waiting.popleft()
            if request.place.done():
                continue
            slot = self._best(request)
            if slot is None:
                unserved.append(request)
                if all(slot.taken >= _places(slot) for slot in self.ready_slots):
                    break
                continue
            slot.taken += 1
            request.place.set_result(slot)
        self._waiting.extendleft(reversed(unserved))

    def _on_change(self, _: EngineSlot) -> None:
        self._changed.set()
        # Also when a slot is lost: a request that avoids another may have no choice now.
        self._serve_waiting()


def _places(slot: EngineSlot) -> int:
    if slot.grown or slot.outdated:
        return 0
    # A prompt that is queued already can't get a fresh engine any more.
    return 1 if slot.settings.fresh_for_each_model else PLACES_PER_SLOT
