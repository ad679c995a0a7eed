"""A whole worker in this process: the embedded Horde on one side, scripted engines on the other."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from worker.aio import timeout
from worker.app.run import serve
from worker.app.worker_spec import Tolerance, WorkerSpec
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.dashboard.reader import Dashboard
from worker.demo.engine.script import Script
from worker.demo.engine.settings import scripted_settings
from worker.demo.horde.directory import OWNER_KEY
from worker.demo.horde.records import ImageRequest, Outcome
from worker.demo.horde.server import RunningHorde
from worker.errors import WorkerError
from worker.horde.agent import bridge_agent
from worker.jobs.job import Job, JobEvents, Stage
from worker.jobs.journal import Journal
from worker.models.progress import ModelsState
from worker.safety.checker import NoChecker, SafetyChecker
from worker.scheduling.fault_limiter import FaultLimiter
from worker.workflows.families import AuxiliaryFile
from worker.workflows.library import Library
from worker.workflows.request import (
    Embedding,
    EmbeddingWish,
    GenMetadataNote,
    LoraFile,
    LoraWish,
    RenderRequest,
    ServedModel,
)
from worker.workflows.types import Family

#: Reading it takes as long as a job does here.
LIBRARY = Library.load()
#: For everything a test waits for; a loaded machine needs seconds where an idle one needs milliseconds.
PATIENCE_S = 120.0
MODEL = "Tiny SD1.5"
#: For faults that are meant, however many of them come in a row.
UNLIMITED = partial(FaultLimiter, in_a_row=10**9, per_hour=10**9, with_expected=10**9)
#: Known to the Horde; served where a test says so.
OTHER = "another"
THIRD = "a third"


class OneModel:
    """A model source with one model, or more of its kind, and no LoRA."""

    def __init__(self, checkpoint: str = "tiny.safetensors") -> None:
        self.served: tuple[str, ...] = (MODEL,)
        self.pinned: frozenset[str] = frozenset()
        #: not here until they are fetched
        self.absent: tuple[str, ...] = ()
        self._checkpoint = checkpoint
        self.unreadable: list[str] = []
        self.readable: list[str] = []

    def running(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    def state(self) -> ModelsState:
        return ModelsState(self.names())

    def broken(self, request: RenderRequest, error: WorkerError) -> None:
        self.unreadable.append(request.model.name)

    def known_size(self, name: str) -> int | None:
        return None

    def rendered(self, request: RenderRequest) -> None:
        self.readable.append(request.model.name)

    def names(self) -> tuple[str, ...]:
        return self.served

    def fetchable(self) -> tuple[str, ...]:
        return tuple(name for name in self.absent if name not in self.served)

    def fetch(self, name: str) -> None:
        self.served = (*self.served, name)

    def named(self) -> frozenset[str]:
        return self.pinned

    def model(self, name: str) -> ServedModel | None:
        file = self._checkpoint if name == MODEL else f"{name}.safetensors"
        return ServedModel(name, Family.STABLE_DIFFUSION_1, {"checkpoint": file}) if name in self.served else None

    def has(self, file: AuxiliaryFile) -> bool:
        return True

    def listed(self, file: AuxiliaryFile) -> str | None:
        return file.name

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | GenMetadataNote:
        return GenMetadataNote("lora", "download_failed", wish.name)

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | GenMetadataNote:
        return GenMetadataNote("ti", "download_failed", wish.name)


@dataclass
class Rig:
    """The worker's parts, and what a test does to them."""

    horde: RunningHorde
    folder: Path
    engines: int = 1
    #: runs the engines; a quick one's child is not the engine itself, which ends a moment later
    python: Path = Path(sys.executable)
    safety: SafetyChecker = field(default_factory=NoChecker)
    models: OneModel = field(default_factory=OneModel)
    config: dict[str, Any] = field(default_factory=dict)
    tolerance: Tolerance = field(default_factory=Tolerance)
    journal: Path | None = None
    #: the worker's folder, for its dashboard at any free port of this machine; None: without one
    dashboard: Path | None = None
    jobs: list[Job] = field(default_factory=list)

    @property
    def script_file(self) -> Path:
        return self.folder / "script.json"

    def play(self, **content: Any) -> None:
        """Put an engine script in force."""
        Script(**content).write(self.script_file)

    def ask(self, count: int = 1, *, model: str = MODEL, **params: Any) -> list[str]:
        """Queue requests; their ids."""
        asked = {"width": 64, "height": 64, "steps": 4, "cfg_scale": 5.0, **params}
        return [
            self.horde.state.enqueue(ImageRequest(prompt=f"fox {number}", models=(model,), params=asked, nsfw=False))
            for number in range(count)
        ]

    def setup(self) -> WorkerSpec:
        first = replace(scripted_settings(self.folder / "engine", script=self.script_file), python=self.python)
        engines = [
            replace(
                first, base_directory=self.folder / f"engine-{number}", log_file=self.folder / f"bridge_{number}.log"
            )
            for number in range(1, self.engines + 1)
        ]
        events = JobEvents()
        events.subscribe(lambda event: self.jobs.append(event.job) if event.stage is Stage.POPPED else None)
        data = {"api_key": OWNER_KEY, "dreamer_name": "chaos", "queue_size": 1, **self.config}
        live = LiveConfig(BridgeData.model_validate({**data, "dashboard_port": 0}))
        return WorkerSpec(
            live=live,
            horde_url=f"{self.horde.url}/api",
            agent=bridge_agent("13.0.0", "https://example.invalid"),
            engines=engines,
            models=self.models,
            library=LIBRARY,
            safety=self.safety,
            events=events,
            journal=Journal(self.journal) if self.journal else None,
            drain_limit_s=PATIENCE_S,
            tolerance=self.tolerance,
            readers=(Dashboard(live, self.dashboard),) if self.dashboard else (),
        )

    @asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.Event]:
        """A worker at work until the block ends; then it drains. The event is its stop."""
        stop = asyncio.Event()
        serving = asyncio.ensure_future(serve(self.setup(), stop))
        try:
            yield stop
        except BaseException:
            if serving.done():
                await serving
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            raise
        stop.set()
        async with timeout(PATIENCE_S):
            await serving

    async def serve(self) -> None:
        """A worker at work until it ends by itself."""
        async with timeout(PATIENCE_S):
            await serve(self.setup(), asyncio.Event())

    async def done(self, request_ids: list[str]) -> None:
        """Wait until the Horde has nothing more to expect for these requests."""
        await asyncio.to_thread(self.horde.state.wait, request_ids, timeout_s=PATIENCE_S)

    async def until(self, condition: Callable[[], object]) -> None:
        async with timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.02)

    def outcomes(self) -> Counter[Outcome]:
        return Counter(self.horde.state.accounting().outcomes.values())
