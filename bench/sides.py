"""What the benches share: bare ComfyUI on one side, the whole worker and its Horde on the other, the same jobs.

The worker and the Horde are processes of their own, as they are in life. Jobs alternate over the models of a bench;
every job has another seed, so that nothing comes from a cache.
"""

import argparse
import asyncio
import contextlib
import copy
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
from worker_process import with_threads

from worker.config.schema import BridgeData
from worker.demo import tinies
from worker.demo.horde.directory import OWNER_KEY, REQUESTER_KEY
from worker.demo.run import CPU
from worker.demo.tiny.recipes import FULL_SIZE_MODELS, TINY_MODELS
from worker.engine.client import EngineClient
from worker.engine.devices import Device, engine_settings
from worker.engine.install import Runtime
from worker.engine.process import EngineProcess, EngineSettings
from worker.models.disk.store import Store
from worker.models.installed import InstalledModels
from worker.workflows.library import Library
from worker.workflows.materialise import Materialised, materialise
from worker.workflows.payload import read_request
from worker.workflows.request import RenderRequest
from worker.workflows.template_selection import select

#: Jobs rendered before anything is counted: loading the model is not what is measured.
WARM_UP_JOBS = 3
#: Jobs queued before and after those that count.
MARGIN_JOBS = 3
#: How often the Horde is asked how far the worker is; often enough for the shares of a processor.
LOOK_EVERY_S = 0.25
#: Requests under way while jobs are asked for.
ASKS_AT_ONCE = 32
PATIENCE_S = 900.0
#: What a bench asks for that does not care which.
ONE_MODEL = "Tiny SD1.5"
WORKER = Path(__file__).with_name("worker_process.py")


def options(parser: argparse.ArgumentParser, *, jobs: int, turns: int, side: int = 64) -> None:
    """What can be set of a comparison of both sides."""
    parser.add_argument("--jobs", type=int, default=jobs)
    parser.add_argument("--turns", type=int, default=turns)
    parser.add_argument("--side", type=int, default=side)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--api-latency", type=float, default=0.1)
    parser.add_argument("--upload-latency", type=float, default=0.05)
    parser.add_argument("--engine-threads", type=int, default=1, help="0 leaves it to ComfyUI")


def payload(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The job as the Horde's payload, for both sides.

    `arguments.params` (where there are any) are further fields that API and payload spell alike, `arguments.n` the
    images of a job.
    """
    return {
        "prompt": "a red fox in the snow ### blurry",
        "width": arguments.side,
        "height": arguments.side,
        "ddim_steps": arguments.steps,
        "n_iter": getattr(arguments, "n", 1),
        "seed": str(seed),
        "sampler_name": "k_euler",
        "cfg_scale": 5.0,
        "karras": True,
        "clip_skip": 1,
        **getattr(arguments, "params", {}),
    }


class Rig:
    """What both sides share: generated models, the ComfyUI that can load them, and the device."""

    def __init__(self, scratch: Path, models: Sequence[str], *, full_size: bool = False, device: Device = CPU) -> None:
        self.names = tuple(models)
        self.runtime = Runtime.locate()
        self.device = device
        self.generated = tinies.GeneratedModels.of(self.runtime, full_size=full_size)
        self.bare = replace(self.runtime, comfyui=self.generated.comfyui)
        self.models = [model for model in (*TINY_MODELS, *FULL_SIZE_MODELS) if model.name in self.names]
        self.store = Store(tinies.models_folder(self.generated.folder))
        self.scratch = scratch
        self.config = BridgeData.model_validate({"api_key": OWNER_KEY, "dreamer_name": "bench"})
        self.catalog = InstalledModels(self.store, ())
        self.library = Library.load()

    async def build(self, more: Sequence[str] = ()) -> None:
        """Make the models, and the files named `more`, where they are missing."""
        files = {file.name for model in self.models for file in model.files} | set(more)
        await tinies.build(self.runtime, files, tell=lambda _: None, full_size=self.generated.full_size)
        self.store.refresh()
        self.catalog = InstalledModels(self.store, tinies.records(self.models))

    def of(self, models: Sequence[str]) -> "Rig":
        """The same rig whose jobs go round these models only."""
        other = copy.copy(self)
        other.names = tuple(models)
        return other

    def engine(self, threads: int) -> EngineSettings:
        (settings,) = engine_settings(
            self.config,
            self.bare,
            devices=(self.device,),
            model_paths=self.store.model_paths(),
            folder=self.scratch / "engines",
            logs=self.scratch / "bare",
            # As ComfyUI comes: without our cache flags.
            memory_bytes=0,
            largest_model_bytes=0,
        )
        return with_threads(settings, threads)

    def model_of(self, number: int) -> str:
        """Jobs go round the models."""
        return self.names[number % len(self.names)]

    def request(self, arguments: argparse.Namespace, number: int) -> RenderRequest:
        """The job of this number, read and clamped."""
        model = self.catalog.model(self.model_of(number))
        assert model is not None
        return read_request(payload(arguments, number), model=model)

    def graph(self, arguments: argparse.Namespace, number: int) -> Materialised:
        request = self.request(arguments, number)
        return materialise(select(self.library, request), request)


def build_models(*names: str) -> None:
    """Make these models where they are missing: a worker asks for models that are there, whatever its engines."""
    asyncio.run(Rig(Path(), names).build())


@contextlib.asynccontextmanager
async def bare_engine(rig: Rig, threads: int) -> AsyncIterator[EngineClient]:
    process = EngineProcess(rig.engine(threads))
    await process.start()
    client = EngineClient(process.url, process.token)
    try:
        await client.open()
        yield client
    finally:
        await client.close()
        await process.stop()


async def time_bare(client: EngineClient, rig: Rig, arguments: argparse.Namespace, first: int) -> float:
    """Seconds for all jobs, image to image, with one prompt always waiting in the engine's queue."""
    places = asyncio.Semaphore(2)
    moments: list[float] = []

    async def one(number: int) -> None:
        async with places:
            made = rig.graph(arguments, number)
            await client.render(made.graph, made.outputs)
            moments.append(time.perf_counter())

    await asyncio.gather(*(one(first + number) for number in range(arguments.jobs + 2 * MARGIN_JOBS)))
    return steady(moments, arguments.jobs)


def steady(moments: list[float], jobs: int) -> float:
    """Seconds for so many jobs in the middle, where neither the start nor the end of a queue shows."""
    return moments[MARGIN_JOBS + jobs - 1] - moments[MARGIN_JOBS - 1]


@contextlib.contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process until the end of the block."""
    child = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout:
            child.stdout.close()


def said(child: subprocess.Popen[str]) -> dict[str, Any]:
    """The next JSON line of a child."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise SystemExit("a process of the bench ended before it was ready; see its messages above")
    found: dict[str, Any] = json.loads(line)
    return found


class Requester:
    """Who asks the Horde of a bench for images and looks at its books."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    def books(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/accounting").json()
        return found

    def wait_for(self, count: int, *, look_every_s: float = LOOK_EVERY_S) -> list[float]:
        """The moments of all deliveries by the Horde's clock, as soon as there are so many."""
        deadline = time.perf_counter() + PATIENCE_S
        while len(moments := self.books()["delivered_at"]) < count:
            if time.perf_counter() > deadline:
                raise SystemExit(f"only {len(moments)} of {count} jobs were delivered in {PATIENCE_S:.0f} s")
            time.sleep(look_every_s)
        return sorted(moments)

    def ask(self, arguments: argparse.Namespace, jobs: Sequence[tuple[str, int]]) -> None:
        """Ask for all jobs (model, seed) at once: the API's latency must not feed them in one by one."""
        asyncio.run(self._ask(arguments, jobs))

    async def _ask(self, arguments: argparse.Namespace, jobs: Sequence[tuple[str, int]]) -> None:
        asked = payload(arguments, 0)
        own = ("width", "height", "sampler_name", "cfg_scale", "karras", "clip_skip", *getattr(arguments, "params", {}))
        params = {key: asked[key] for key in own}
        headers = {"apikey": REQUESTER_KEY}
        # More at a time cost this process the processor that the worker is measured on.
        places = asyncio.Semaphore(ASKS_AT_ONCE)
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=PATIENCE_S, trust_env=False) as http:

            async def one(model: str, seed: int) -> None:
                body = {"prompt": asked["prompt"], "models": [model], "nsfw": False, **getattr(arguments, "body", {})}
                body["params"] = {**params, "steps": arguments.steps, "seed": str(seed), "n": asked["n_iter"]}
                async with places:
                    (await http.post("/api/v2/generate/async", json=body)).raise_for_status()

            await asyncio.gather(*(one(model, seed) for model, seed in jobs))


@contextlib.contextmanager
def horde(*, api_latency: float = 0.0, upload_latency: float = 0.0) -> Iterator[Requester]:
    """The embedded Horde as a process of its own."""
    latencies = ("--api-latency", str(api_latency), "--upload-latency", str(upload_latency))
    with started("-m", "worker.demo.horde", "--port", "0", *latencies) as server:
        url = said(server)["url"]
        with httpx.Client(base_url=url, headers={"apikey": REQUESTER_KEY}, trust_env=False) as http:
            yield Requester(http)


@dataclass(frozen=True)
class Sample:
    """What the worker had used up at a moment. Seconds."""

    at: float
    engine: float
    supervisor: float


class WorkerSide:
    """The running worker and its Horde."""

    def __init__(self, requester: Requester, rig: Rig, worker_pid: int, log: Path, timeline: Path) -> None:
        self.requester = requester
        self.process = psutil.Process(worker_pid)
        self.log = log
        #: one JSON line for each job that ended; see worker_process.py
        self.timeline = timeline
        self.done = 0
        self._rig = rig

    def of(self, rig: Rig) -> "WorkerSide":
        """The same worker asked for the models of another rig."""
        self._rig = rig
        return self

    def time(self, arguments: argparse.Namespace, first: int) -> dict[str, float]:
        """Seconds for all jobs of a saturated queue, delivery to delivery, and what they cost."""
        # Jobs more before and after those that count: the queue is never empty while the clock runs.
        jobs, images = arguments.jobs + 2 * MARGIN_JOBS, getattr(arguments, "n", 1)
        numbers = range(first, first + jobs)
        self.requester.ask(arguments, [(self._rig.model_of(number), number) for number in numbers])
        # The Horde counts images.
        self.requester.wait_for(self.done + images * MARGIN_JOBS)
        before = self._sample()
        self.requester.wait_for(self.done + images * (MARGIN_JOBS + arguments.jobs))
        after = self._sample()
        moments = self.requester.wait_for(self.done + images * jobs)[self.done :]
        self.done += images * jobs
        lasted = after.at - before.at
        return {
            "seconds": steady(moments[images - 1 :: images], arguments.jobs),
            "duty": (after.engine - before.engine) / lasted,
            "cpu": (after.supervisor - before.supervisor) / lasted,
            "rss": self.process.memory_info().rss,
        }

    def _sample(self) -> Sample:
        log = self.log.read_text(errors="replace")
        busy = sum(map(float, re.findall(r"Prompt executed in ([\d.]+) seconds", log)))
        return Sample(time.perf_counter(), busy, sum(self.process.cpu_times()[:2]))


@contextlib.contextmanager
def worker_side(
    arguments: argparse.Namespace, rig: Rig, settings: Mapping[str, Any] | None = None
) -> Iterator[WorkerSide]:
    """The whole worker with `settings` (keys of bridgeData.yaml) and a Horde, until the end of the block."""
    with horde(api_latency=arguments.api_latency, upload_latency=arguments.upload_latency) as requester:
        # A folder of its own: logs and timeline of another worker would count as this one's.
        logs = Path(tempfile.mkdtemp(prefix="worker-", dir=rig.scratch))
        command = [str(WORKER), "--horde", requester.url, "--logs", str(logs), "--models", *rig.names]
        command += ["--engine-threads", str(arguments.engine_threads), "--device", rig.device.accelerator.value]
        command += [
            "--settings",
            json.dumps(dict(settings or {})),
            "--timeline",
            str(timeline := logs / "timeline.jsonl"),
        ]
        command += ["--full-size"] if rig.generated.full_size else []
        with started(*command) as child:
            yield WorkerSide(requester, rig, child.pid, logs / "bridge_1.log", timeline)


@dataclass(frozen=True)
class Turns:
    """Both sides, turn by turn."""

    jobs: int
    bare: list[float]
    whole: list[dict[str, float]]

    @property
    def ratios(self) -> list[float]:
        """Bare seconds ÷ worker seconds."""
        return [bare / whole["seconds"] for bare, whole in zip(self.bare, self.whole, strict=True)]

    def details(self) -> dict[str, Any]:
        """What stands beside the figure."""

        def middle(key: str) -> float:
            return statistics.median(turn[key] for turn in self.whole)

        overheads = [(w["seconds"] - b) / self.jobs for b, w in zip(self.bare, self.whole, strict=True)]
        return {
            "limit_jobs_per_min": round(60 * self.jobs / statistics.median(self.bare), 1),
            "worker_jobs_per_min": round(60 * self.jobs / middle("seconds"), 1),
            "ratios": [round(ratio, 4) for ratio in self.ratios],
            "engine_duty": round(middle("duty"), 4),
            "overhead_ms_per_job": round(1000 * statistics.median(overheads), 1),
            "supervisor_cpu": round(middle("cpu"), 4),
            "supervisor_rss_mb": round(max(turn["rss"] for turn in self.whole) / 1e6, 1),
        }


async def compare(arguments: argparse.Namespace, models: Sequence[str]) -> Turns:
    """Bare ComfyUI and the whole worker in turns. Who goes first alternates: what drifts, drifts for both."""
    turns = Turns(arguments.jobs, [], [])
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), models)
        await rig.build()
        async with bare_engine(rig, arguments.engine_threads) as client:
            with worker_side(arguments, rig) as side:
                warm = argparse.Namespace(**{**vars(arguments), "jobs": WARM_UP_JOBS})
                await time_bare(client, rig, warm, 1)
                await asyncio.to_thread(side.time, warm, 1)
                for turn in range(1, arguments.turns + 1):
                    first = turn * 100_000
                    if turn % 2:
                        turns.bare.append(await time_bare(client, rig, arguments, first))
                    turns.whole.append(await asyncio.to_thread(side.time, arguments, first))
                    if turn % 2 == 0:
                        turns.bare.append(await time_bare(client, rig, arguments, first))
                    bare, whole = turns.bare[-1], turns.whole[-1]["seconds"]
                    print(f"turn {turn}: bare {bare:.2f} s, worker {whole:.2f} s", file=sys.stderr)
    return turns
