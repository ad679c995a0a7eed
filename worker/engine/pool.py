"""All engines of this machine: who renders what, and what happens to a job whose engine fails.

A job takes a place in a slot, renders, and leaves. A slot has one place more than it renders at a time, so that the
next graph is in the engine's queue before the current one ends. Places are given first come, first served: an idle
slot before a busy one, and among equals the one that has the job's model in memory.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

from loguru import logger

from worker.aio import TaskGroup, ungrouped
from worker.consequences import consequence_of
from worker.engine import vram
from worker.engine.events import MemoryNeed, Progress
from worker.engine.graph_trace import Graph
from worker.engine.process import EngineSettings
from worker.engine.retries import RenderRetries
from worker.engine.slot import EngineSlot, SlotState
from worker.engine.stall_detector import Patience, Watch
from worker.errors import Addition, AdditionBroken, Blame, EngineError, EngineStartFailed, Retry
from worker.images import RawImage
from worker.process.supervisor import RestartPolicy

#: Places per slot: one prompt renders, one waits in the engine.
PLACES_PER_SLOT = 2
#: What is told of a try even if the engine refused it before it began.
FILES_BLAMED = frozenset({Blame.ADDITION, Blame.MODEL_FILE})
#: How often to look whether other programs use a card.
CARDS_LOOK_S = 20.0


@dataclass(frozen=True)
class Rendering:
    """A graph for one kind of engine, which of its nodes deliver images, and how many images that makes."""

    graph: Graph
    outputs: tuple[str, ...]
    count: int
    #: how often a sampler may have each pixel at once; 0: the memory it takes tells nothing of other sizes
    evaluations: int = 0


class Conditions(NamedTuple):
    """What a try's graphs depend on beside the job."""

    #: the engine has our node pack; else only ComfyUI's own nodes
    has_node_pack: bool = True
    #: an earlier try ran out of memory
    save_memory: bool = False
    #: LoRAs and textual inversions that earlier tries could not use
    without: frozenset[Addition] = frozenset()


@dataclass(frozen=True)
class RenderTask:
    """What a job wants from an engine."""

    #: name of the model, for residency
    model: str
    #: what to render, one after another
    prepare: Callable[[Conditions], Sequence[Rendering]]
    #: encoded pictures by the key the graph knows them by
    pictures: Mapping[str, bytes]
    #: seconds on the loop's clock after which no new try makes sense
    deadline: float
    on_progress: Callable[[Progress], None] | None = None
    #: told the number of the slot, for each try
    on_placed: Callable[[int], None] = lambda _: None
    #: told the error of each try that an engine had begun with, or whose files it could not use
    on_failed: Callable[[EngineError], None] = lambda _: None
    #: of one image, and how many at once
    pixels: int = 0
    batch: int = 1
    #: LoRAs and textual inversions that the job uses: what breaks an engine may be one of those, and not the model
    additions: frozenset[Addition] = frozenset()


@dataclass(frozen=True)
class _Wish:
    """What a waiting job wants of a slot."""

    task: RenderTask
    #: the slot that just failed it
    avoid: EngineSlot | None


class Learned(Protocol):
    """What was learned of models and devices from earlier jobs, as the pool asks for it and adds to it."""

    @property
    def patience(self) -> Patience | None:
        """How long an engine may stand still; None: the same for whatever it does."""

    def work_in_s(self, slots: Collection[int]) -> Mapping[int, float]:
        """Seconds until slots have nothing to do, by their numbers."""

    def fits(self, slot: EngineSlot, task: RenderTask) -> bool:
        """Whether the slot's card has the memory that the task needs."""

    def engine_failed(self, slot: EngineSlot, task: RenderTask, error: EngineError) -> None:
        """Hear of a try that failed after an engine had begun with it."""

    def memory_taken(self, slot: EngineSlot, task: RenderTask, rendering: Rendering, need: MemoryNeed) -> None:
        """Hear what a rendering that succeeded took of its card, where the engine tells."""


class NoEstimates:
    """Knows nothing, and learns nothing."""

    patience = None

    def work_in_s(self, slots: Collection[int]) -> Mapping[int, float]:
        return dict.fromkeys(slots, 0.0)

    def fits(self, _slot: EngineSlot, _task: RenderTask) -> bool:
        return True

    def engine_failed(self, _slot: EngineSlot, _task: RenderTask, _error: EngineError) -> None:
        return

    def memory_taken(self, _slot: EngineSlot, _task: RenderTask, _rendering: Rendering, _need: MemoryNeed) -> None:
        return


class _Watched:
    """A task for one try; tells whether an engine came to it, and when."""

    def __init__(self, task: RenderTask) -> None:
        #: on the loop's clock
        self.begun_at: float | None = None
        self._on_progress = task.on_progress
        self.task = replace(task, on_progress=self._note)

    def _note(self, progress: Progress) -> None:
        if self.begun_at is None:
            self.begun_at = asyncio.get_running_loop().time()
        if self._on_progress:
            self._on_progress(progress)


class EnginePool:
    """Slots with their engines. `async with pool.running():` around all use."""

    def __init__(
        self,
        settings: Sequence[EngineSettings],
        *,
        retry: RenderRetries | None = None,
        learned: Learned | None = None,
        restarts: Callable[[], RestartPolicy] = RestartPolicy,
        silence_limit_s: float | None = None,
    ) -> None:
        self.slots = [
            EngineSlot(number, each, restarts(), silence_limit_s=silence_limit_s, on_change=self._on_change)
            for number, each in enumerate(settings, start=1)
        ]
        self._retry = retry or RenderRetries()
        self._learned = learned or NoEstimates()
        self._waiting: deque[tuple[_Wish, asyncio.Future[EngineSlot]]] = deque()
        self._changed = asyncio.Event()
        #: devices that are to get no more jobs for now, with the reason
        self.shortages: dict[str, str] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["EnginePool"]:
        """Engines start in the background on entry and are stopped on exit."""
        with ungrouped():
            async with TaskGroup() as group:
                lives = [group.create_task(slot.run(), name=f"engine-{slot.number}") for slot in self.slots]
                lives.append(group.create_task(self._look_at_cards(), name="cards"))
                try:
                    yield self
                finally:
                    for life in lives:
                        life.cancel()

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

    @property
    def ready_slots(self) -> list[EngineSlot]:
        return [slot for slot in self.slots if slot.state is SlotState.READY]

    @property
    def offered_slots(self) -> list[EngineSlot]:
        """Those that take jobs: ready, and on a card that is not in use by others."""
        return [slot for slot in self.ready_slots if _places(slot) and slot.settings.device not in self.shortages]

    async def render(self, task: RenderTask) -> list[RawImage]:
        """Render on some slot; once more after a failure that another try may mend, if the deadline allows.

        Raises the EngineError of the last try.
        """
        loop = asyncio.get_running_loop()
        conditions = Conditions()
        failed: EngineSlot | None = None
        begun = 0
        for attempt in range(1, self._retry.most_attempts + 1):
            async with self._place(task, avoid=failed) as slot:
                task.on_placed(slot.number)
                watched, process = _Watched(task), slot.process
                try:
                    images = await self._render_on(slot, watched.task, conditions)
                except EngineError as error:
                    now, took_s = loop.time(), 0.0
                    if watched.begun_at is not None:
                        # What is left out costs next to nothing; the try after it is the job's first real one.
                        begun += consequence_of(error).retry is not Retry.WITHOUT
                        took_s = now - watched.begun_at
                        self._learned.engine_failed(slot, task, error)
                    if watched.begun_at is not None or error.blame in FILES_BLAMED:
                        task.on_failed(error)
                    how = self._retry.next_try(error, attempt=begun, took_s=took_s, left_s=task.deadline - now)
                    slot.failed(error, of=process)
                    if how is Retry.NO or attempt == self._retry.most_attempts:
                        raise
                    conditions = _after(conditions, how, error, task)
                    # What the job brings fails anywhere, and this engine has its model.
                    failed = None if how is Retry.WITHOUT else slot
                    logger.bind(action="render_retry", slot=slot.number, retry=how.value).warning(
                        "Engine {} failed a job, trying again: {}", slot.number, error
                    )
                else:
                    slot.succeeded()
                    return images
        raise AssertionError("the last attempt returns or raises")

    async def _render_on(self, slot: EngineSlot, task: RenderTask, conditions: Conditions) -> list[RawImage]:
        client = slot.client
        slot.uses(task.model)
        if conditions.save_memory:
            await client.free()
        try:
            for key, picture in task.pictures.items():
                await client.put_input(key, picture)
            images: list[RawImage] = []
            for each in task.prepare(conditions._replace(has_node_pack=client.has_node_pack)):
                images += await client.render(
                    each.graph,
                    each.outputs,
                    expected=each.count,
                    on_progress=task.on_progress,
                    on_memory=partial(self._learned.memory_taken, slot, task, each),
                    watch=self._watch(task, each.count),
                )
            return images
        finally:
            await client.drop_inputs(task.pictures.keys())

    def _watch(self, task: RenderTask, images: int) -> Watch | None:
        patience = self._learned.patience
        return Watch(patience, task.model, task.pixels * images / 1e6) if patience else None

    async def _look_at_cards(self) -> None:
        """Find out again and again whether other programs need a card, for as long as the pool runs."""
        while True:
            readings: dict[str, list[vram.Reading]] = {}
            for slot in self.ready_slots:
                # An engine that does not answer, or not sensibly, is its jobs' business.
                with contextlib.suppress(EngineError, ValueError):
                    if reading := vram.read(await slot.client.system_stats()):
                        readings.setdefault(slot.settings.device, []).append(reading)
            short = {device: reason for device, found in readings.items() if (reason := vram.shortage(found))}
            for device in short.keys() - self.shortages.keys():
                logger.bind(action="card_in_use").warning("No new jobs for {}: {}.", device, short[device])
            for device in self.shortages.keys() - short.keys():
                logger.bind(action="card_free").info("{} takes jobs again.", device)
            self.shortages = short
            # Who waits for a card that is not in use may have another choice now.
            self._serve_waiting()
            await asyncio.sleep(CARDS_LOOK_S)

    # Places

    @asynccontextmanager
    async def _place(self, task: RenderTask, *, avoid: EngineSlot | None) -> AsyncIterator[EngineSlot]:
        """A place in a slot that is the task's for the time of the body, with a fresh engine where that is wanted."""
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
        """A place in the best slot; in `avoid` only while no other is ready."""
        wish = _Wish(task, avoid)
        slot = None if self._waiting else self._best(wish)
        if slot is None:
            place: asyncio.Future[EngineSlot] = asyncio.get_running_loop().create_future()
            self._waiting.append((wish, place))
            # Someone before us may wait for a slot that is of no use to us, or the other way round.
            self._serve_waiting()
            try:
                return await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._give_back(place.result())
                raise
        slot.taken += 1
        return slot

    def _give_back(self, slot: EngineSlot) -> None:
        slot.taken -= 1
        slot.recycle_if_grown()
        self._serve_waiting()

    def _best(self, wish: "_Wish") -> EngineSlot | None:
        """The best free place: an idle slot, then the one that will be idle first; with the model where that ties.

        An idle slot beats one that has the model but is busy: loading costs less than waiting for a whole job.
        """
        ready, task = self.ready_slots, wish.task
        suitable = [slot for slot in ready if slot.settings.takes(task.model, task.pixels)] or ready
        suitable = [slot for slot in suitable if slot.settings.device not in self.shortages] or suitable
        suitable = [slot for slot in suitable if self._learned.fits(slot, task)] or suitable
        suitable = [slot for slot in suitable if slot is not wish.avoid] or suitable
        free = [slot for slot in suitable if slot.taken < _places(slot)]
        idle = self._learned.work_in_s([slot.number for slot in free])
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
        """Give free places away in the order of asking, past those whom none of the free ones suits."""
        unserved: deque[tuple[_Wish, asyncio.Future[EngineSlot]]] = deque()
        while self._waiting:
            wish, place = self._waiting.popleft()
            if place.done():
                continue
            slot = self._best(wish)
            if slot is None:
                unserved.append((wish, place))
                if all(slot.taken >= _places(slot) for slot in self.ready_slots):
                    break
                continue
            slot.taken += 1
            place.set_result(slot)
        self._waiting.extendleft(reversed(unserved))

    def _on_change(self, _: EngineSlot) -> None:
        self._changed.set()
        # Also when a slot goes: who was to avoid another may have no choice now.
        self._serve_waiting()


def _after(conditions: Conditions, how: Retry, error: EngineError, task: RenderTask) -> Conditions:
    """The conditions of the next try after one that failed."""
    match how:
        case Retry.DEGRADED:
            return conditions._replace(save_memory=True)
        case Retry.WITHOUT if isinstance(error, AdditionBroken):
            # Where one after another fails there is no time to find them all.
            more = task.additions if conditions.without else frozenset()
            return conditions._replace(without=conditions.without | error.additions | more)
        case _:
            return conditions


def _places(slot: EngineSlot) -> int:
    if slot.grown:
        return 0
    # What is queued in an engine already can't get a fresh one any more.
    return 1 if slot.settings.fresh_for_each_model else PLACES_PER_SLOT
