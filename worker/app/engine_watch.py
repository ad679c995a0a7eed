"""Which engine is in use while the worker runs: changes over to another, and goes back from one that fails."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from worker.app.context import RunningWorker
from worker.app.live_library import keep_node_classes
from worker.clock import Clock, monotonic
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.engine.process import EngineSettings
from worker.engine.slot import EngineSlot, SlotState
from worker.engine.versions.probation import ServiceRecord
from worker.engine.versions.shelf import Shelf
from worker.engine.versions.state import INSTALLED
from worker.errors import ImageNotFinite, WorkerError
from worker.file_facts import stamp_of
from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling.estimates.speed import work_of_steps

#: How often the state file and the engines are looked at.
POLL_S = 2.0
#: After a failure to go back from an engine.
RETRY_S = 60.0
#: How often the speeds of the engine in use are kept for the next one to be compared with.
KEEP_S = 600.0


def own_engine(config: BridgeData) -> bool:
    """Whether the owner names an engine of his own, which goes before any of those side by side."""
    return config.comfyui_path is not None or config.comfyui_python is not None


@dataclass(frozen=True, repr=False)
class FallBack:
    """Gives up an engine that fails, in favour of the one before."""

    shelf: Shelf
    live: LiveConfig
    #: the settings of all engines, of the version in use
    engines: Callable[[BridgeData], Sequence[EngineSettings]]

    def __call__(self, why: str) -> Sequence[EngineSettings]:
        """Take the engine before into use, because of a fault of the present one; none where there is no other.

        Reads and writes files.
        """
        failed = self.shelf.in_use
        if own_engine(self.live.data) or failed.name == INSTALLED:
            return ()
        before = self.shelf.find(self.shelf.state.previous)
        if before is None or before.name == failed.name or not before.stands:
            before = self.shelf.installed
        try:
            self.shelf.use(before.name, reason=f"{failed.name} failed in service: {why}")
        except (WorkerError, OSError) as error:
            logger.error("The engine {} failed, which can't be written down: {}", failed.name, error)
            self.shelf.take_instead(before.name)
        logger.bind(action="engine_rolled_back", engine=failed.name, to=before.name).error(
            "The engine {} (ComfyUI {}) failed in service: {}. {} (ComfyUI {}) is used again.",
            failed.name, failed.version, why, before.name, before.version,
        )  # fmt: skip
        return self.engines(self.live.data)


@dataclass(eq=False, repr=False)
class EngineWatch:
    """A background task."""

    shelf: Shelf
    live: LiveConfig
    engines: Callable[[BridgeData], Sequence[EngineSettings]]
    fall_back: FallBack
    poll_s: float = POLL_S
    clock: Clock = monotonic

    def __post_init__(self) -> None:
        self._seen = self._stamp()
        self._record = ServiceRecord()
        #: the engine that the record is of
        self._recorded = self.shelf.in_use.name
        #: when that began in this run. The state file's date is that of a clock that may be set meanwhile.
        self._recorded_at = self.clock()
        #: slot → losses before the engine was taken into use
        self._lost_before: dict[int, int] = {}
        self._trees: frozenset[Path] = frozenset()
        self._kept_at = self.clock()

    async def __call__(self, running: RunningWorker) -> None:
        running.events.subscribe(self._note)
        self._trees = _trees(running.pool.slots)
        while True:
            await asyncio.sleep(self.poll_s)
            if own_engine(self.live.data):
                continue
            try:
                await self._look(running)
            except (WorkerError, OSError) as error:
                logger.bind(action="engine_watch").error("The engine in use can't be seen to: {}", error)

    async def _look(self, running: RunningWorker) -> None:
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            await self._change_over(running)
        await self._audit(running)
        await self._judge(running)

    async def _change_over(self, running: RunningWorker) -> None:
        """Have the slots start the engine in use, each as soon as it has no job."""
        engine = await asyncio.to_thread(lambda: self.shelf.in_use)
        if engine.name == self._recorded:
            return
        await self._keep_speeds()
        engines = await asyncio.to_thread(self.engines, self.live.data)
        self._record, self._recorded, self._recorded_at = ServiceRecord(), engine.name, self.clock()
        self._lost_before = {slot.number: slot.restarts for slot in running.pool.slots}
        logger.bind(action="engine_changed", engine=engine.name).info(
            "Changing over to the engine {} (ComfyUI {}) as engines become idle.", engine.name, engine.version
        )
        if running.pool.give_settings(engines):
            running.pool.renew()

    async def _audit(self, running: RunningWorker) -> None:
        """Offer what all engines can run, when those in service are others than before."""
        trees = _trees(running.pool.slots)
        if trees and trees != self._trees:
            self._trees = trees
            ready = {
                slot.process.settings.comfyui: slot
                for slot in running.pool.slots
                if slot.process and slot.state is SlotState.READY
            }
            await asyncio.to_thread(
                running.library.audit, [(slot.version, slot.object_info) for slot in ready.values()]
            )
            for slot in ready.values():
                await keep_node_classes(slot)

    async def _judge(self, running: RunningWorker) -> None:
        """Give up an engine on probation that fails; let one that has served well count as sound."""
        if self.clock() - self._kept_at > KEEP_S:
            await self._keep_speeds()
        if self._recorded == INSTALLED:
            return
        slots = running.pool.slots
        self._record.losses = max((slot.restarts - self._lost_before.get(slot.number, 0) for slot in slots), default=0)
        if all(slot.never_starts for slot in slots):
            self._record.never_starts = str(slots[0].reason)
        state = await asyncio.to_thread(lambda: self.shelf.state)
        if not state.on_probation or state.current != self._recorded:
            return
        if why := self._record.complaint(state.speeds.get(state.previous, {})):
            if await asyncio.to_thread(self.fall_back, why):
                running.pool.forgive()
            else:
                await asyncio.sleep(RETRY_S)
        elif self._record.is_proven(self.clock() - self._recorded_at):
            await asyncio.to_thread(self.shelf.change, lambda now: now.proven(self._recorded))
            logger.bind(action="engine_proven", engine=self._recorded).info(
                "The engine {} has served {} jobs and counts as sound.", self._recorded, self._record.done
            )

    async def _keep_speeds(self) -> None:
        """Write down how fast the engine in use is, for the next one to be compared with."""
        self._kept_at = self.clock()
        if speeds := self._record.speeds():
            name = self._recorded
            try:
                await asyncio.to_thread(self.shelf.change, lambda state: state.with_speeds(name, speeds))
            except (WorkerError, OSError) as error:  # a runtime that is read-only, as in a container
                logger.debug("The engine's speeds are not kept: {}", error)

    def _note(self, event: JobEvent) -> None:
        job = event.job
        if event.stage is Stage.DONE:
            self._record.done += 1
            self._note_speed(job)
        elif event.stage is Stage.FAULTED and isinstance(job.error, ImageNotFinite):
            self._record.not_finite += 1

    def _note_speed(self, job: Job) -> None:
        steps, seconds = job.sampling.measured(0.0)
        if job.request is None or not job.sampling.steps or seconds <= 0:
            return
        work = work_of_steps(job.request, steps)
        if work > 0:
            kind = f"{job.request.model.name} {job.request.width}x{job.request.height}x{job.request.batch}"
            self._record.note_speed(kind, seconds / work)

    def _stamp(self) -> tuple[tuple[int, int] | None, int]:
        return stamp_of(self.shelf.state_file), len(self.shelf.instead)


def _trees(slots: Sequence[EngineSlot]) -> frozenset[Path]:
    """The trees of the engines that are ready."""
    return frozenset(slot.process.settings.comfyui for slot in slots if slot.process and slot.state is SlotState.READY)
