"""One place where an engine runs: started, watched, started again when it dies, set aside when it dies too often."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from loguru import logger

from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess, EngineSettings
from worker.errors import EngineDied, EngineError, EngineStartFailed
from worker.process.restart_policy import RestartPolicy

#: How often a running engine's log is looked at, for it may run for months.
LOG_LOOK_S = 60.0
#: A busy engine that outgrew its share of the memory sooner than this works on: that was no leak but its models, and
#: a fresh one would soon be as large.
LEAST_SERVICE_S = 600.0


class SlotState(str, Enum):
    STARTING = "starting"
    READY = "ready"
    #: dead, waiting for its next start
    RESTING = "resting"
    #: its engine does not even die: the device is left alone until it has
    STUCK = "stuck"
    STOPPED = "stopped"


@dataclass(eq=False)
class EngineSlot:
    """A slot and the engine in it. `run` is its life; everything else may be read at any time."""

    number: int
    settings: EngineSettings
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    silence_limit_s: float | None = None
    #: called whenever the slot becomes ready or stops being so
    on_change: Callable[["EngineSlot"], None] = lambda _: None
    state: SlotState = SlotState.STARTING
    #: names of the models that are very likely still in memory, the last used first
    models: tuple[str, ...] = ()
    #: jobs that hold a place here
    taken: int = 0
    #: it outgrew its share of the memory: it gets no more jobs, and is started afresh when it has none left
    grown: bool = False
    #: why it does not run, when it does not
    reason: EngineError | None = None
    restarts: int = 0
    process: EngineProcess | None = None
    _client: EngineClient | None = None
    #: when the engine became ready in this life; 0: not yet
    _ready_at: float = 0.0
    _restart: asyncio.Event = field(default_factory=asyncio.Event)
    #: the next end of the engine is one of ours, and no failure
    _recycling: bool = False

    @property
    def client(self) -> EngineClient:
        """The connection to the running engine. Raises EngineDied between two lives."""
        if self._client is None or self.state is not SlotState.READY:
            raise EngineDied(f"Engine {self.number} is not running.")
        return self._client

    @property
    def object_info(self) -> Mapping[str, Any]:
        """The node classes of the engine that runs or ran last."""
        return self._client.object_info if self._client else {}

    def uses(self, model: str) -> None:
        """A job with this model begins here."""
        kept = [model, *(other for other in self.models if other != model)]
        self.models = tuple(kept[: self.settings.models_kept])

    def distance_to(self, model: str) -> int:
        """How far a model is from being used here: 0 the last used, then by age, most where it is not in memory."""
        return self.models.index(model) if model in self.models else len(self.models) + 1

    def restart(self, reason: EngineError, *, of: EngineProcess | None = None) -> None:
        """End this engine's life now; the next one begins as the policy says.

        With `of` only if that process still is the slot's: a job may be late to tell that an earlier one failed it.
        """
        if self.state is SlotState.READY and of in (None, self.process):
            self.reason = reason
            self._change(SlotState.RESTING)
            self._restart.set()

    def recycle_if_grown(self) -> None:
        """Start the engine afresh when it holds more memory than its share: leaks end here, not in a hang.

        To be called whenever a job has left: a busy engine is `grown` until its last has.
        """
        share = self.settings.memory_limit_bytes
        held = self.process.memory_bytes() if self.process and share else 0
        served_s = time.monotonic() - self._ready_at
        self.grown = held > share and (not self.taken or served_s >= LEAST_SERVICE_S)
        if self.grown and not self.taken:
            self._recycle(f"it holds {held / 1024**3:.1f} GiB")

    def recycle_for(self, model: str) -> bool:
        """Start the engine afresh for a job with another model, where the owner wants that; whether it is."""
        if self.settings.fresh_for_each_model and self.models not in ((), (model,)):
            self._recycle(f"a job needs {model}")
        return self._recycling

    def _recycle(self, reason: str) -> None:
        if self.state is SlotState.READY:
            logger.bind(action="engine_recycled", slot=self.number).info(
                "Engine {} is started afresh: {}.", self.number, reason
            )
            self._recycling = True
            self._change(SlotState.STARTING)
            self._restart.set()

    async def run(self) -> None:
        """Keep an engine running until cancelled."""
        try:
            while True:
                try:
                    await self._live()
                except EngineError as error:
                    self.reason = error
                except Exception as error:  # a defect of ours takes one engine out of service, not all jobs with it
                    logger.exception("A defect in the worker: engine {} can't be run", self.number)
                    self.reason = EngineStartFailed(f"internal error: {type(error).__name__}: {error}.")
                await self._until_gone()
                if self._recycling:
                    self._recycling = False
                    continue
                self._change(SlotState.RESTING)
                self.restarts += 1
                now = time.monotonic()
                pause_s = self.policy.died(now, served_s=now - self._ready_at if self._ready_at else 0.0)
                logger.bind(action="engine_died", slot=self.number, pause_s=pause_s).error(
                    "Engine {} is down: {} {}",
                    self.number,
                    self.reason,
                    f"Next start in {pause_s:.0f} s." if pause_s else "Starting it again.",
                )
                await asyncio.sleep(pause_s)
        finally:
            self._change(SlotState.STOPPED)

    async def _live(self) -> None:
        """One life of the engine, from launch to death. Raises the reason of its death."""
        self._change(SlotState.STARTING)
        self._restart.clear()
        self._ready_at = 0.0
        self.models, self.grown = (), False
        self.process = process = EngineProcess(self.settings)
        client: EngineClient | None = None
        try:
            await process.start()
            client = EngineClient(process.url, process.token, silence_limit_s=self.silence_limit_s)
            try:
                await client.open()
            except EngineError as error:
                raise EngineStartFailed(f"The engine started, but can't be talked to: {error}") from error
            self._client = client
            self._ready_at = time.monotonic()
            self._change(SlotState.READY)
            await self._watch(process)
        finally:
            if client is not None:
                client.expect_end()
            # First the process, so that no prompt is told "gone" while the engine still works on it.
            try:
                await process.stop()
            finally:
                if client is not None:
                    await client.close()

    async def _until_gone(self) -> None:
        """Wait for an engine that could not be killed: a second one on the same device would get stuck as well."""
        if self.process and self.process.alive:
            self._change(SlotState.STUCK)
            logger.bind(action="slot_fenced", slot=self.number).error(
                "Engine {} ({}) is out of service until its process ends; the others go on.",
                self.number,
                self.settings.device,
            )
            await self.process.wait()

    async def _watch(self, process: EngineProcess) -> None:
        """Return when a restart is wanted; raise EngineDied when the process ends."""
        death = asyncio.ensure_future(process.wait())
        wish = asyncio.ensure_future(self._restart.wait())
        try:
            while not (death.done() or wish.done()):
                await asyncio.wait((death, wish), return_when=asyncio.FIRST_COMPLETED, timeout=LOG_LOOK_S)
                process.trim_log()
            if death.done():
                raise EngineDied(f"The engine ended with code {death.result()}.\n{process.log_tail()}")
        finally:
            death.cancel()
            wish.cancel()

    def _change(self, state: SlotState) -> None:
        if state is not self.state:
            self.state = state
            self.on_change(self)
