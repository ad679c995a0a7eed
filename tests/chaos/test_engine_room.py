"""Engines and workers that die, hang and refuse to end: no job is lost by it, and no process stays behind."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from worker.aio import timeout
from worker.demo.engine.script import Fault, FaultKind, Script, strikes
from worker.demo.engine.settings import scripted_settings
from worker.engine.pool import EnginePool
from worker.engine.process import LAUNCHER
from worker.engine.render_task import Rendering, RenderTask
from worker.errors import EngineError, RenderCancelled
from worker.process.supervisor import RestartPolicy

pytestmark = pytest.mark.chaos

#: For everything that takes seconds on an idle machine.
PATIENCE_S = 120.0
FOR_EVER_S = 3600.0

#: A worker in a process of its own: starts an engine, tells both process ids, and holds the engine until it is killed.
WORKER = """
import asyncio, json, os, sys
from pathlib import Path
from worker.demo.engine.settings import scripted_settings
from worker.engine.process import EngineProcess

async def main():
    process = EngineProcess(scripted_settings(Path(sys.argv[1]), script=Path(sys.argv[2])))
    start = asyncio.ensure_future(process.start())
    while not process.pid:
        await asyncio.sleep(0.01)
    if sys.argv[3] == "ready":
        await start
    print(json.dumps(process.pid), flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture
def script_file(tmp_path: Path) -> Path:
    return tmp_path / "script.json"


@pytest.fixture
def pool_of(tmp_path: Path, script_file: Path) -> Callable[..., Any]:
    """pool_of(n): a pool of n scripted engines that are all ready.

    `silence_limit_s` is for those that hang: a machine that stands still for a moment would look like one.
    """

    @asynccontextmanager
    async def run(count: int, *, silence_limit_s: float | None = None) -> AsyncIterator[EnginePool]:
        settings = [scripted_settings(tmp_path / str(number), script=script_file) for number in range(count)]
        policy = partial(RestartPolicy, backoff_s=(0.0,), limit=1000)
        pool = EnginePool(settings, restarts=policy, silence_limit_s=silence_limit_s)
        async with pool.running():
            await until(lambda: len(pool.ready_slots) == count)
            yield pool

    return run


async def until(condition: Callable[[], object]) -> None:
    async with timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


def sampling(seed: int, *, count: int = 1, begun: asyncio.Event | None = None) -> RenderTask:
    """A job of 4 steps on an engine."""
    graph = {
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": count}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["model", 0], "positive": ["text", 0], "negative": ["text", 0], "latent_image": ["latent", 0],
                "seed": seed, "steps": 4, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            },
        },
        "model": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
        "text": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse", "clip": ["model", 1]}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["model", 2]}},
        "out": {"class_type": "HordeImageOutput", "inputs": {"images": ["decode", 0]}},
    }  # fmt: skip
    return RenderTask(
        model="a",
        prepare=lambda _: [Rendering(graph, ("out",), count)],
        pictures={},
        deadline=asyncio.get_running_loop().time() + FOR_EVER_S,
        on_progress=lambda progress: begun.set() if begun and progress.node_id == "sampler" else None,
    )


def engine_pids(pool: EnginePool) -> list[int]:
    return [slot.process.pid for slot in pool.slots if slot.process]


@pytest.mark.parametrize("count", [1, 2])
async def test_an_engine_killed_in_the_middle_of_its_jobs_loses_none_of_them(
    pool_of: Callable[..., Any], script_file: Path, count: int
) -> None:
    async with pool_of(count) as pool:
        Script(seconds=FOR_EVER_S).write(script_file)
        begun = asyncio.Event()
        jobs = [asyncio.ensure_future(pool.render(sampling(1, count=3, begun=begun)))]
        await begun.wait()
        jobs += [asyncio.ensure_future(pool.render(sampling(seed))) for seed in (2, 3)]
        Script().write(script_file)

        psutil.Process(engine_pids(pool)[0]).kill()

        async with timeout(PATIENCE_S):
            images = await asyncio.gather(*jobs)
        assert [len(each) for each in images] == [3, 1, 1]
        await until(lambda: len(pool.ready_slots) == count)
        assert [slot.restarts for slot in pool.slots] == [1, 0][:count]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking them")
async def test_an_engine_that_hangs_and_ignores_the_polite_request_is_killed_and_its_job_done(
    pool_of: Callable[..., Any], script_file: Path
) -> None:
    Script(ignore_sigterm=True).write(script_file)
    async with pool_of(1, silence_limit_s=3.0) as pool:
        first = engine_pids(pool)
        Script(faults=(Fault(FaultKind.HANG),)).write(script_file)

        async with timeout(PATIENCE_S):
            assert len(await pool.render(sampling(1))) == 1

        assert not psutil.pid_exists(first[0])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking them")
@pytest.mark.parametrize("cancelled_again", [False, True])
async def test_a_worker_that_is_told_to_end_leaves_no_engine_whatever_they_do(
    pool_of: Callable[..., Any], script_file: Path, cancelled_again: bool
) -> None:
    Script(ignore_sigterm=True, seconds=FOR_EVER_S).write(script_file)
    pids: list[int] = []
    begun = asyncio.Event()

    async def work() -> None:
        async with pool_of(2) as pool:
            pids.extend(engine_pids(pool))
            await asyncio.gather(*(pool.render(sampling(seed, begun=begun)) for seed in range(4)))

    working = asyncio.ensure_future(work())
    async with timeout(PATIENCE_S):
        await begun.wait()
    working.cancel()
    if cancelled_again:
        await asyncio.sleep(0.2)
        working.cancel()
    await asyncio.wait([working], timeout=PATIENCE_S)

    assert working.cancelled()
    assert len(pids) == 2
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 on Windows")
@pytest.mark.parametrize("stage", ["ready", "starting", "deaf"])
async def test_a_killed_worker_takes_its_engine_with_it(tmp_path: Path, script_file: Path, stage: str) -> None:
    Script(start_seconds=FOR_EVER_S if stage == "starting" else 0, ignore_sigterm=stage == "deaf").write(script_file)
    wait_for = "starting" if stage == "starting" else "ready"
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, str(tmp_path / "engine"), str(script_file), wait_for, stdout=subprocess.PIPE
    )
    try:
        assert worker.stdout is not None
        async with timeout(PATIENCE_S):
            engine = psutil.Process(json.loads(await worker.stdout.readline()))
    finally:
        worker.kill()
        await worker.wait()

    await until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)


async def test_an_engine_ends_when_its_lifeline_does(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print('up', flush=True)\nimport time\ntime.sleep(3600)\n", encoding="utf-8")
    engine = await asyncio.create_subprocess_exec(
        sys.executable, str(LAUNCHER), str(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert engine.stdin is not None
    assert engine.stdout is not None
    try:
        async with timeout(PATIENCE_S):
            assert await engine.stdout.readline() == b"up\n"
            assert engine.returncode is None
            engine.stdin.close()
            assert await engine.wait() == 1
    finally:
        if engine.returncode is None:
            engine.kill()


async def test_under_random_faults_every_job_ends_and_nothing_is_left(
    pool_of: Callable[..., Any], script_file: Path
) -> None:
    kinds = (
        FaultKind.CRASH, FaultKind.HANG, FaultKind.OUT_OF_MEMORY, FaultKind.DEVICE_LOST, FaultKind.NODE_FAILURE,
        FaultKind.FRAME_LOST, FaultKind.FRAME_DAMAGED, FaultKind.SOCKET_LOST, FaultKind.REFUSAL,
        FaultKind.START_FAILURE,
    )  # fmt: skip
    pids: set[int] = set()
    async with pool_of(2, silence_limit_s=1.5) as pool:
        Script(seconds=0.05, faults=tuple(Fault(kind, times=None, chance=0.04) for kind in kinds)).write(script_file)

        async def render(seed: int) -> int:
            try:
                return len(await pool.render(sampling(seed, count=1 + seed % 3)))
            finally:
                pids.update(engine_pids(pool))

        async with timeout(4 * PATIENCE_S):
            ends = await asyncio.gather(*(render(seed) for seed in range(80)), return_exceptions=True)
        Script().write(script_file)
        await until(lambda: len(pool.ready_slots) == 2)

        assert [slot.taken for slot in pool.slots] == [0, 0]
        assert not pool._waiting
        assert [len(slot.client._prompts) for slot in pool.slots] == [0, 0]
        async with timeout(PATIENCE_S):
            assert len(await pool.render(sampling(1000))) == 1

    faults = strikes(script_file)
    assert sum(faults.values()) >= 5
    delivered = {seed: end for seed, end in enumerate(ends) if isinstance(end, int)}
    assert delivered == {seed: 1 + seed % 3 for seed in delivered}
    failed = [end for end in ends if not isinstance(end, int)]
    assert {type(end) for end in failed} <= set(EngineError.__subclasses__()) - {RenderCancelled}
    # Two hits end a job, and no fault hits more than the two jobs of one engine.
    assert len(failed) <= sum(faults.values())
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    await until(lambda: not any(thread.name == "engine-reader" for thread in threading.enumerate()))
