"""How much of the bare engine's throughput the whole worker keeps.

Within one run, in turns: bare ComfyUI fed back to back with the very graphs the worker makes, and the whole worker
(its own process) against the embedded Horde (another process) with a saturated queue and settable latencies. Both
use the same tiny SD1.5 on the CPU, every job with another seed. The figure is the median ratio over the turns.

Both engines compute on one thread: that core is the "card", and the worker and the Horde have the other core, as on
a machine whose engine has a device of its own. Jobs are timed by the Horde's clock, delivery to delivery.

    python bench/throughput.py --jobs 20 --turns 6 --side 64 --steps 4 --api-latency 0.1 --upload-latency 0.05
"""

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
from worker_process import with_threads

from worker.config.schema import BridgeData
from worker.demo import tinies
from worker.demo.horde.directory import OWNER_KEY, REQUESTER_KEY
from worker.demo.tiny.recipes import TINY_MODELS
from worker.engine.client import EngineClient
from worker.engine.devices import Device, engine_settings
from worker.engine.install import Runtime
from worker.engine.install.machine import Accelerator
from worker.engine.process import EngineProcess, EngineSettings
from worker.models.catalog import Catalog
from worker.models.store import Store
from worker.workflows.library import Library
from worker.workflows.materialise import Materialised, materialise
from worker.workflows.request import read_request
from worker.workflows.select import select

GOAL = 0.97
MODEL = "Tiny SD1.5"
#: Jobs rendered before anything is counted: loading the model is not what is measured.
WARM_UP_JOBS = 3
#: Jobs queued before and after those that count.
MARGIN_JOBS = 3
#: How often the Horde is asked how far the worker is; often enough for the shares of a processor.
LOOK_EVERY_S = 0.25
PATIENCE_S = 900.0


def payload(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The job as the Horde's payload, for both sides."""
    return {
        "prompt": "a red fox in the snow ### blurry",
        "width": arguments.side,
        "height": arguments.side,
        "ddim_steps": arguments.steps,
        "n_iter": 1,
        "seed": str(seed),
        "sampler_name": "k_euler",
        "cfg_scale": 5.0,
        "karras": True,
        "clip_skip": 1,
    }


class Rig:
    """What both sides share: the tiny model and the engine that can load it."""

    def __init__(self, scratch: Path) -> None:
        self.runtime = Runtime.locate()
        folder = tinies.tiny_folder(self.runtime)
        self.bare = replace(self.runtime, comfyui=tinies.engine_tree(folder))
        self.models = [model for model in TINY_MODELS if model.name == MODEL]
        self.store = Store(tinies.models_folder(folder))
        self.scratch = scratch
        self.config = BridgeData.model_validate({"api_key": OWNER_KEY, "dreamer_name": "bench"})
        self.catalog = Catalog(self.store, tinies.records(self.models))
        self.library = Library.load()

    async def build(self) -> None:
        files = {file.name for model in self.models for file in model.files}
        await tinies.build(self.runtime, files, on_file=lambda _: None)
        self.catalog = Catalog(self.store, tinies.records(self.models))

    def engine(self, arguments: argparse.Namespace) -> EngineSettings:
        device = Device(Accelerator.CPU)
        paths = self.store.model_paths()
        (settings,) = engine_settings(
            self.config,
            self.bare,
            devices=(device,),
            model_paths=paths,
            folder=self.runtime.folder / "engines",
            logs=self.scratch / "bare",
            # As ComfyUI comes: without our cache flags.
            memory_bytes=0,
            largest_model_bytes=0,
        )
        return with_threads(settings, arguments.engine_threads)

    def graph(self, arguments: argparse.Namespace, seed: int) -> Materialised:
        model = self.catalog.model(MODEL)
        assert model is not None
        request = read_request(payload(arguments, seed), model=model)
        return materialise(select(self.library, request), request)


@contextlib.asynccontextmanager
async def bare_engine(rig: Rig, arguments: argparse.Namespace) -> AsyncIterator[EngineClient]:
    process = EngineProcess(rig.engine(arguments))
    await process.start()
    client = EngineClient(process.url, process.token)
    try:
        await client.open()
        yield client
    finally:
        await client.close()
        await process.stop()


async def time_bare(client: EngineClient, rig: Rig, arguments: argparse.Namespace, first_seed: int) -> float:
    """Seconds for all jobs, image to image, with one prompt always waiting in the engine's queue."""
    places = asyncio.Semaphore(2)
    moments: list[float] = []

    async def one(seed: int) -> None:
        async with places:
            made = rig.graph(arguments, seed)
            await client.render(made.graph, made.outputs)
            moments.append(time.perf_counter())

    await asyncio.gather(*(one(first_seed + number) for number in range(arguments.jobs + 2 * MARGIN_JOBS)))
    return steady(moments, arguments.jobs)


def steady(moments: list[float], jobs: int) -> float:
    """Seconds for so many jobs in the middle, where neither the start nor the end of a queue shows."""
    return moments[MARGIN_JOBS + jobs - 1] - moments[MARGIN_JOBS - 1]


@contextlib.contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
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


async def queue(url: str, arguments: argparse.Namespace, count: int, first_seed: int) -> None:
    """Ask for all jobs at once: the API's latency must not feed them in one by one."""
    asked = payload(arguments, 0)
    params = {key: asked[key] for key in ("width", "height", "sampler_name", "cfg_scale", "karras", "clip_skip")}
    async with httpx.AsyncClient(base_url=url, headers={"apikey": REQUESTER_KEY}, timeout=60, trust_env=False) as http:

        async def one(seed: int) -> None:
            body = {"prompt": asked["prompt"], "models": [MODEL], "nsfw": False}
            body["params"] = {**params, "steps": arguments.steps, "seed": str(seed), "n": 1}
            (await http.post("/api/v2/generate/async", json=body)).raise_for_status()

        await asyncio.gather(*(one(first_seed + number) for number in range(count)))


@dataclass(frozen=True)
class Sample:
    """What the worker had used up at a moment. Seconds."""

    at: float
    engine: float
    supervisor: float


class WorkerSide:
    """The running worker and its Horde."""

    def __init__(self, http: httpx.Client, worker_pid: int, log: Path) -> None:
        self.http = http
        self.process = psutil.Process(worker_pid)
        self.log = log
        self.done = 0

    def time(self, arguments: argparse.Namespace, first_seed: int) -> dict[str, float]:
        """Seconds for all jobs of a saturated queue, delivery to delivery, and what they cost."""
        # Jobs more before and after those that count: the queue is never empty while the clock runs.
        total = arguments.jobs + 2 * MARGIN_JOBS
        asyncio.run(queue(str(self.http.base_url), arguments, total, first_seed))
        self._wait_for(self.done + MARGIN_JOBS)
        before = self._sample()
        self._wait_for(self.done + MARGIN_JOBS + arguments.jobs)
        after = self._sample()
        moments = sorted(self._wait_for(self.done + total))[self.done :]
        self.done += total
        lasted = after.at - before.at
        return {
            "seconds": steady(moments, arguments.jobs),
            "duty": (after.engine - before.engine) / lasted,
            "cpu": (after.supervisor - before.supervisor) / lasted,
            "rss": self.process.memory_info().rss,
        }

    def _sample(self) -> Sample:
        log = self.log.read_text(errors="replace")
        busy = sum(map(float, re.findall(r"Prompt executed in ([\d.]+) seconds", log)))
        return Sample(time.perf_counter(), busy, sum(self.process.cpu_times()[:2]))

    def _wait_for(self, count: int) -> list[float]:
        """The moments of all deliveries, as soon as there are so many."""
        deadline = time.perf_counter() + PATIENCE_S
        while len(moments := self.http.get("/accounting").json()["delivered_at"]) < count:
            if time.perf_counter() > deadline:
                raise SystemExit(f"only {len(moments)} of {count} jobs were delivered in {PATIENCE_S:.0f} s")
            time.sleep(LOOK_EVERY_S)
        return list(moments)


@contextlib.contextmanager
def worker_side(arguments: argparse.Namespace, rig: Rig) -> Iterator[WorkerSide]:
    horde = ["-m", "worker.demo.horde", "--port", "0"]
    horde += ["--api-latency", str(arguments.api_latency), "--upload-latency", str(arguments.upload_latency)]
    with started(*horde) as server:
        url = said(server)["url"]
        logs = rig.scratch / "worker"
        worker = [str(Path(__file__).with_name("worker_process.py")), "--horde", url, "--logs", str(logs)]
        worker += ["--engine-threads", str(arguments.engine_threads)]
        with started(*worker) as child, httpx.Client(base_url=url, headers={"apikey": REQUESTER_KEY}) as http:
            yield WorkerSide(http, child.pid, logs / "bridge_1.log")


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    bare, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        await rig.build()
        async with bare_engine(rig, arguments) as client:
            with worker_side(arguments, rig) as side:
                warm = argparse.Namespace(**{**vars(arguments), "jobs": WARM_UP_JOBS})
                await time_bare(client, rig, warm, 1)
                await asyncio.to_thread(side.time, warm, 1)
                for turn in range(1, arguments.turns + 1):
                    seed = turn * 100_000
                    if turn % 2:  # Who goes first alternates: what drifts, drifts for both.
                        bare.append(await time_bare(client, rig, arguments, seed))
                    whole.append(await asyncio.to_thread(side.time, arguments, seed))
                    if not turn % 2:
                        bare.append(await time_bare(client, rig, arguments, seed))
                    print(f"turn {turn}: bare {bare[-1]:.2f} s, worker {whole[-1]['seconds']:.2f} s", file=sys.stderr)
    limit = 60 * arguments.jobs / statistics.median(bare)
    kept = 60 * arguments.jobs / statistics.median(turn["seconds"] for turn in whole)
    ratio = statistics.median(b / w["seconds"] for b, w in zip(bare, whole, strict=True))
    overheads = [(w["seconds"] - b) / arguments.jobs for b, w in zip(bare, whole, strict=True)]
    return {
        "name": "throughput",
        "figure": round(ratio, 4),
        "goal": GOAL,
        "meets": ratio >= GOAL,
        "limit_jobs_per_min": round(limit, 1),
        "worker_jobs_per_min": round(kept, 1),
        "ratio": round(ratio, 4),
        "ratios": [round(b / w["seconds"], 4) for b, w in zip(bare, whole, strict=True)],
        "engine_duty": round(statistics.median(turn["duty"] for turn in whole), 4),
        "overhead_ms_per_job": round(1000 * statistics.median(overheads), 1),
        "supervisor_cpu": round(statistics.median(turn["cpu"] for turn in whole), 4),
        "supervisor_rss_mb": round(max(turn["rss"] for turn in whole) / 1e6, 1),
        "settings": vars(arguments),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--api-latency", type=float, default=0.1)
    parser.add_argument("--upload-latency", type=float, default=0.05)
    parser.add_argument("--engine-threads", type=int, default=1, help="0 leaves it to ComfyUI")
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
