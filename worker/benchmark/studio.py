"""Pictures rendered on a real engine, one after another. Whatever becomes of the engine is an answer, not the end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from worker.aio import timeout
from worker.benchmark.measurements import STEPS, End, Measured, Shot
from worker.engine.client import EngineClient
from worker.engine.events import MemoryNeed
from worker.engine.process import EngineProcess, EngineSettings
from worker.engine.render_task import Conditions
from worker.errors import (
    DeviceLost,
    EngineDied,
    EngineError,
    EngineStalled,
    OutOfMemory,
    TemplateError,
    WorkerError,
)
from worker.jobs.rendering import JobGraphs
from worker.workflows.library import Library
from worker.workflows.payload import read_request
from worker.workflows.request import RenderRequest, ServedModel
from worker.workflows.template_selection import select

#: Steps of the two pictures by which a job's fixed part and its steps are told apart.
FEW, MORE = 2, 8
#: A first picture loads the model, from a slow disk for minutes.
LOAD_LIMIT_S: Final = 240.0
#: Sentences of an error that are kept.
_WHY_LENGTH: Final = 200
SEED: Final = 20_000


@dataclass
class Studio:
    """One engine and the models it may load. Close with `aclose`."""

    settings: EngineSettings
    models: Callable[[str], ServedModel | None]
    library: Library
    _process: EngineProcess | None = None
    _client: EngineClient | None = None
    #: models whose first picture was made since the engine started
    _warm: set[str] = field(default_factory=set)
    _seed: int = SEED

    async def shoot(self, shot: Shot, *, within_s: float) -> Measured:
        """Render two pictures of few steps; what a whole job would take, or how it ended. Raises EngineStartFailed."""
        model = self.models(shot.model)
        if model is None:
            return Measured(shot, End.BROKEN, why="its files are not here")
        load_s = 0.0
        memory: list[MemoryNeed] = []
        try:
            async with timeout(within_s):
                await self._start()
                if shot.model not in self._warm:
                    began = time.perf_counter()
                    await self._render(model, replace(shot, batch=1), FEW, memory)
                    load_s = time.perf_counter() - began
                    self._warm.add(shot.model)
                few_s = await self._render(model, shot, FEW, memory)
                more_s = await self._render(model, shot, MORE, memory)
        except TimeoutError:
            # The picture is still being made, or the engine still being started.
            await self.aclose()
            return Measured(shot, End.TOO_SLOW, load_s=load_s, why=f"not done in {within_s:.0f} s")
        except OutOfMemory as error:
            await self._free()
            return Measured(shot, End.OUT_OF_MEMORY, load_s=load_s, why=_short(error) if error.remedy else "")
        except (EngineDied, EngineStalled, DeviceLost) as error:
            await self.aclose()
            return Measured(shot, End.CRASHED, load_s=load_s, why=_short(error))
        except (EngineError, TemplateError) as error:
            return Measured(shot, End.BROKEN, load_s=load_s, why=_short(error))
        step_s = max(0.0, more_s - few_s) / (MORE - FEW)
        # A step that seems to take nothing is one too short to be told from the rest of a job.
        seconds = max(few_s + step_s * (STEPS - FEW), more_s)
        used = max((need.used for need in memory), default=0)
        ram = self._process.memory_bytes() if self._process else 0
        return Measured(shot, End.MADE, seconds, max(0.0, load_s - few_s), used, ram)

    async def pace(self, shot: Shot, pictures: int) -> float:
        """Seconds for so many pictures of `MORE` steps, one after another, on a warm engine. Raises EngineError."""
        model = self.models(shot.model)
        assert model is not None
        await self._start()
        if shot.model not in self._warm:
            await self._render(model, shot, FEW, [])
            self._warm.add(shot.model)
        return sum([await self._render(model, shot, MORE, []) for _ in range(pictures)])

    async def aclose(self) -> None:
        """End the engine. Harmless when it has ended."""
        client, process = self._client, self._process
        self._client = self._process = None
        self._warm.clear()
        if client is not None:
            client.expect_end(None)
        try:
            if process is not None:
                await process.stop()
        finally:
            if client is not None:
                with contextlib.suppress(WorkerError):
                    await client.close()

    async def _start(self) -> None:
        if self._client is not None and self._process is not None and self._process.alive:
            return
        await self.aclose()
        self._process = EngineProcess(self.settings)
        await self._process.start()
        self._client = EngineClient(self._process.url, self._process.token)
        await self._client.open()

    async def _free(self) -> None:
        with contextlib.suppress(EngineError):
            if self._client is not None:
                await self._client.free()
        self._warm.clear()

    async def _render(self, model: ServedModel, shot: Shot, steps: int, memory: list[MemoryNeed]) -> float:
        """Seconds for one picture; each has a seed of its own, so that nothing comes from a cache."""
        assert self._client is not None
        self._seed += 1
        request = _request(model, shot, steps, self._seed)
        graphs = JobGraphs(select(self.library, request), request)
        began = time.perf_counter()
        for each in graphs(Conditions(has_node_pack=self._client.has_node_pack)):
            await self._client.render(each.graph, each.outputs, expected=each.count, on_memory=memory.append)
        return time.perf_counter() - began


def _request(model: ServedModel, shot: Shot, steps: int, seed: int) -> RenderRequest:
    payload = {
        "prompt": "a lighthouse on a cliff, evening light, oil painting ### blurry",
        "width": shot.width,
        "height": shot.height,
        "ddim_steps": steps,
        "n_iter": shot.batch,
        "seed": str(seed),
        "sampler_name": "k_euler",
        "cfg_scale": 5.0,
        "karras": True,
        "clip_skip": 1,
    }
    return read_request(payload, model=model, images=shot.batch)


@contextlib.asynccontextmanager
async def studios(each: Sequence[Studio]) -> AsyncIterator[Sequence[Studio]]:
    """Studios whose engines end with the block."""
    try:
        yield each
    finally:
        await asyncio.gather(*(studio.aclose() for studio in each), return_exceptions=True)


def _short(error: WorkerError) -> str:
    return " ".join(error.message.split())[:_WHY_LENGTH]
