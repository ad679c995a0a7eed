"""One slot for an engine: started, watched, restarted when it is lost, set aside when that happens too often."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from loguru import logger

from worker.after_fault import after_fault
from worker.aio import meanwhile
from worker.clock import Clock, monotonic
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess, EngineSettings
from worker.errors import EngineDied, EngineError, EngineNotRunnable, EngineStartFailed, ImageNotFinite, WorkerError
from worker.process.child import trim_log
from worker.process.supervisor import RestartPolicy, Supervisor

#: Seconds between two looks at the size of a running engine's log.
LOG_CHECK_S = 60.0
#: A busy engine that exceeds its share of the memory before this many seconds of service goes on: its models need the
#: memory, it does not leak, and a fresh engine would soon be as large.
LEAST_SERVICE_S = 600.0
#: Jobs in a row with images that are not finite, after which the engine is restarted: some never recover otherwise.
MOST_NOT_FINITE = 2
#: Failed starts in a row after which a slot counts as unable to start its engine.
START_ATTEMPTS = 3


class SlotState(str, Enum):
    STARTING = "starting"
    READY = "ready"
    #: the engine was lost; waiting for the next start
    RESTING = "resting"
    #: the engine can't be killed: nothing is started on the device until it is gone
    STUCK = "stuck"
    STOPPED = "stopped"


@dataclass(eq=False)
class EngineSlot:
    """A slot and the engine in it. `run` keeps the engine running; the attributes may be read at any time."""

    number: int
    settings: EngineSettings
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    silence_limit_s: float | None = None
    clock: Clock = monotonic
    log_check_s: float = LOG_CHECK_S
    #: called whenever `state` changes
    on_change: Callable[["EngineSlot"], None] = lambda _: None
    state: SlotState = SlotState.STARTING
    #: names of the models that are probably in memory, the last used first
    models: tuple[str, ...] = ()
    #: jobs that hold a place here
    taken: int = 0
    #: the engine exceeds its share of the memory: it gets no more jobs and is replaced when it has none left
    grown: bool = False
    #: the engine is not the one that is to be used now: it gets no more jobs and is replaced when it has none left
    outdated: bool = False
    #: why the last engine was lost
    reason: WorkerError | None = None
    process: EngineProcess | None = None
    _client: EngineClient | None = None
    #: set to end the running engine
    _replace: asyncio.Event = field(default_factory=asyncio.Event)
    #: the engine is ended to be replaced, not because it failed
    _recycling: bool = False
    #: jobs in a row whose images were not finite
    _not_finite: int = 0

    def __post_init__(self) -> None:
        self._supervisor = Supervisor(
            f"engine {self.number}", self._life, policy=self.policy, on_down=self._on_down, clock=self.clock
        )

    @property
    def restarts(self) -> int:
        """Starts after a failure."""
        return self._supervisor.restarts

    @property
    def never_starts(self) -> bool:
        """Whether this slot seems unable to start its engine."""
        if self.state is SlotState.STUCK or isinstance(self.reason, EngineNotRunnable):
            return True
        return self.state is SlotState.RESTING and self._supervisor.failed_starts >= START_ATTEMPTS

    @property
    def client(self) -> EngineClient:
        """The client of the running engine. Raises EngineDied while none runs."""
        if self._client is None or self.state is not SlotState.READY:
            raise EngineDied(f"Engine {self.number} is not running.")
        return self._client

    @property
    def object_info(self) -> Mapping[str, Any]:
        """The node classes of the engine that runs or ran last."""
        return self._client.object_info if self._client else {}

    @property
    def version(self) -> str:
        """The version of its ComfyUI; "" where that is not known."""
        return self._client.version if self._client else ""

    def uses(self, model: str) -> None:
        """Note that a job with this model begins here."""
        kept = [model, *(other for other in self.models if other != model)]
        self.models = tuple(kept[: self.settings.models_kept])

    def distance_to(self, model: str) -> int:
        """How recently a model was used here: 0 for the last one; larger for older ones, largest if not in memory."""
        return self.models.index(model) if model in self.models else len(self.models) + 1

    def failed(self, error: EngineError, *, of: EngineProcess | None) -> None:
        """Note that a job failed on process `of`; replace the process where the error requires that."""
        if of is not self.process:
            return
        if isinstance(error, ImageNotFinite):
            self._not_finite += 1
        if after_fault(error).restarts_engine or self._not_finite >= MOST_NOT_FINITE:
            self.restart(error, of=of)

    def succeeded(self) -> None:
        """Note that a job was rendered here."""
        self._not_finite = 0

    def set_aside(self, reason: EngineError, *, of: EngineProcess | None) -> None:
        """End process `of` and leave the device alone for as long as the policy sets engines aside."""
        if self.state is SlotState.READY and of is self.process:
            self.policy.distrust()
            self.restart(reason, of=of)

    def restart(self, reason: EngineError, *, of: EngineProcess | None = None) -> None:
        """End the running engine now; the next start follows the policy.

        With `of` only if that is still the slot's process: a job may report late that an earlier one failed it.
        """
        if self.state is SlotState.READY and of in (None, self.process):
            self.reason = reason
            self._change(SlotState.RESTING)
            self._replace.set()

    def recycle_if_due(self) -> None:
        """Replace an outdated engine, and one that exceeds its share of the memory, since a leak ends in a hang.

        Call it after each job: a busy engine is `grown` or `outdated` until its last job has ended.
        """
        if self.outdated:
            if not self.taken:
                self._recycle("another ComfyUI is to be used")
            return
        share = self.settings.memory_limit_bytes
        held = self.process.memory_bytes() if self.process and share else 0
        self.grown = held > share and (not self.taken or self._supervisor.served_s >= LEAST_SERVICE_S)
        if self.grown and not self.taken:
            self._recycle(f"it holds {held / 1024**3:.1f} GiB")

    def renew(self) -> None:
        """Replace the engine by one of the settings that are in force now, as soon as it has no job."""
        self.outdated = self.process is not None and self.process.settings is not self.settings
        self.recycle_if_due()

    def forgive(self) -> None:
        """Forget failed starts: the next one is of another engine."""
        self.reason = None
        self._supervisor.failed_starts = 0

    def recycle_for(self, model: str) -> bool:
        """Replace the engine before a job with another model, where the owner wants that. Returns whether it is."""
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
            self._replace.set()

    async def run(self) -> None:
        """Keep an engine running until cancelled."""
        try:
            await self._supervisor.run()
        finally:
            self._change(SlotState.STOPPED)

    def _on_down(self, reason: WorkerError, _pause_s: float) -> None:
        self.reason = reason
        self._change(SlotState.RESTING)

    async def _life(self) -> None:
        """One life of the engine, until its process is gone. Raises why it was lost, unless it is replaced by plan."""
        try:
            await self._live()
        except Exception:
            await self._until_gone()
            raise
        await self._until_gone()

    async def _live(self) -> None:
        self._change(SlotState.STARTING)
        self._replace.clear()
        self._recycling = False
        self._not_finite = 0
        self.models, self.grown, self.outdated = (), False, False
        self.process = process = EngineProcess(self.settings)
        client: EngineClient | None = None
        cause: EngineError | None = None
        try:
            await process.start()
            client = EngineClient(process.url, process.token, silence_limit_s=self.silence_limit_s)
            try:
                await client.open()
            except EngineError as error:
                raise EngineStartFailed(f"The engine started, but can't be talked to: {error}") from error
            self._client = client
            self._supervisor.serving()
            self._change(SlotState.READY)
            if self.outdated:  # the settings have changed while it started
                self.recycle_if_due()
            await self._watch(process)
            if not self._recycling and self.reason:
                cause = EngineDied(f"The engine is restarted: {self.reason}")
                raise self.reason
        except EngineDied as error:
            cause = cause or error
            raise
        finally:
            if client is not None:
                client.expect_end(cause)
            # The process ends first, so that no prompt fails while the engine still works on it.
            try:
                await process.stop()
            finally:
                if client is not None:
                    await client.close()

    async def _until_gone(self) -> None:
        """Wait for an engine that could not be killed: a second one on the same device would hang as well."""
        if self.process and self.process.alive:
            self._change(SlotState.STUCK)
            logger.bind(action="slot_fenced", slot=self.number).error(
                "Engine {} ({}) is out of service until its process ends; the others go on.",
                self.number,
                self.settings.device,
            )
            await self.process.wait()

    async def _watch(self, process: EngineProcess) -> None:
        """Return when the engine is to be replaced; raise EngineDied with its exit code and log when it ends."""
        async with meanwhile(process.wait(), self._replace.wait()) as (death, replace):
            while not (death.done() or replace.done()):
                await asyncio.wait((death, replace), return_when=asyncio.FIRST_COMPLETED, timeout=self.log_check_s)
                await trim_log(process.settings.log_file)
            if death.done():
                raise process.death()

    def _change(self, state: SlotState) -> None:
        if state is not self.state:
            self.state = state
            self.on_change(self)
