"""Parts of the card's measurement that compare no throughput: starts, switches of model, memory, safety."""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sides
from card_cases import SETTINGS, Sizes

from worker.demo import tinies
from worker.engine.events import MemoryNeed
from worker.engine.install.machine import Accelerator
from worker.engine.pool import EnginePool
from worker.engine.process import EngineProcess
from worker.engine.render_task import PoolEstimates, Rendering, RenderTask
from worker.engine.slot import EngineSlot
from worker.errors import SafetyUnavailable
from worker.images import RawImage
from worker.safety.child_process import CHILD, SafetyProcess, SafetySettings
from worker.scheduling.estimates.memory import MemoryNeeds
from worker.units import GIB
from worker.workflows.features import evaluations_of

#: Engines started one after the other.
STARTS = 3
#: Switches between two models, for each place that the weights come from.
SWITCHES = 3
#: Images that the safety checker looks at; the first is not counted.
CHECKS = 6
#: The safety child with random weights; run by path, in the engine's environment.
RANDOM_CHILD = Path(tinies.__file__).with_name("tiny") / "safety.py"


def cores() -> int:
    """Logical processors of this machine."""
    return os.cpu_count() or 1


def engine_start(rig: sides.Rig, sizes: Sizes) -> dict[str, float]:
    """Seconds from launch to ready, of a bare engine, several times."""
    del sizes
    return asyncio.run(_starts(rig))


async def _starts(rig: sides.Rig) -> dict[str, float]:
    took = []
    for _ in range(STARTS):
        process = EngineProcess(rig.engine(0))
        began = time.perf_counter()
        await process.start()
        took.append(time.perf_counter() - began)
        await process.stop()
    return {"first_s": round(took[0], 2), "again_s": round(statistics.median(took[1:]), 2)}


def model_switch(rig: sides.Rig, sizes: Sizes) -> dict[str, Any]:
    """Seconds of a one-step job right after another model's, weights in the page cache and weights on disk.

    A job without a switch is what to compare with.
    """
    pairs = {"same family": (sizes.sd15, sizes.sd15_b), "to SDXL": (sizes.sd15, sizes.sdxl)}
    return {name: asyncio.run(_switch(rig.of(models), sizes)) for name, models in pairs.items()}


async def _switch(rig: sides.Rig, sizes: Sizes) -> dict[str, float]:
    arguments = argparse.Namespace(side=sizes.sides[0], steps=1, n=1)
    async with sides.bare_engine(rig, 0) as client:
        seeds = iter(range(1, 10_000))

        async def job(turn: int) -> float:
            # `graph` takes the model from the number's parity.
            number = 2 * next(seeds) + turn
            made = rig.graph(arguments, number)
            began = time.perf_counter()
            await client.render(made.graph, made.outputs)
            return time.perf_counter() - began

        async def switches(before: Callable[[], None]) -> float:
            took = []
            for turn in range(SWITCHES):
                await client.free()
                before()
                took.append(await job(turn % 2))
            return round(statistics.median(took), 2)

        for turn in (0, 1):
            await job(turn)
        alternating = [await job(turn % 2) for turn in range(2 * SWITCHES)]
        same = [await job(0) for _ in range(SWITCHES + 1)][1:]
        return {
            "no_switch_s": round(statistics.median(same), 2),
            "switch_both_held_s": round(statistics.median(alternating), 2),
            "load_from_page_cache_s": await switches(lambda: None),
            "load_from_disk_s": await switches(lambda: _drop_from_cache(rig.generated.folder / "models")),
        }


def _drop_from_cache(folder: Path) -> None:
    """Ask the system to forget what it holds of these files; only Linux can be asked."""
    if not hasattr(os, "posix_fadvise"):
        raise SystemExit("this system can't be asked to drop files from its page cache")
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory(rig: sides.Rig, sizes: Sizes) -> dict[str, Any]:
    """What pictures of growing size took of the card, and what the planner expected from the smallest one. GiB."""
    if rig.device.accelerator is Accelerator.CPU:
        return {"not_measured": "the CPU has no memory of its own"}
    return {model: asyncio.run(_memory(rig.of((model,)), sizes)) for model in (sizes.sd15, sizes.sdxl)}


class Taken(PoolEstimates):
    """Keeps what the last rendering took."""

    need: MemoryNeed | None = None

    def memory_taken(self, _slot: EngineSlot, _task: RenderTask, _rendering: Rendering, need: MemoryNeed) -> None:
        self.need = need


async def _memory(rig: sides.Rig, sizes: Sizes) -> list[dict[str, Any]]:
    taken, needs = Taken(), MemoryNeeds()
    rows: list[dict[str, Any]] = []
    pool = EnginePool([rig.engine(0)], estimates=taken)
    async with pool.running():
        await pool.ready()
        for step, side in enumerate((sizes.sides[0], 3 * sizes.sides[0] // 2, 2 * sizes.sides[0], 3 * sizes.sides[0])):
            pixels, now = side * side, time.monotonic()
            expected = needs.expected_bytes(rig.names[0], rig.device.name, now, pixels=pixels)
            taken.need = None
            await pool.render(_task(rig, argparse.Namespace(side=side, steps=2, n=1), seed=step))
            if taken.need is None:
                return [{"not_measured": "the engine told nothing"}]
            evaluations = evaluations_of(rig.request(argparse.Namespace(side=side, steps=2, n=1), step))
            needs.learn(rig.names[0], rig.device.name, now, pixels=pixels, evaluations=evaluations, need=taken.need)
            row = {"side": side, "taken_gib": round(taken.need.used / GIB, 3)}
            rows.append(row | ({"expected_gib": round(expected / GIB, 3)} if expected else {}))
    return rows


def _task(rig: sides.Rig, arguments: argparse.Namespace, *, seed: int) -> RenderTask:
    request, made = rig.request(arguments, seed), rig.graph(arguments, seed)
    rendering = Rendering(made.graph, made.outputs, request.batch, evaluations_of(request))
    return RenderTask(
        model=request.model.name,
        prepare=lambda _: [rendering],
        pictures={},
        deadline=time.monotonic() + sides.PATIENCE_S,
        pixels=arguments.side**2,
        batch=request.batch,
    )


def out_of_memory(rig: sides.Rig, sizes: Sizes) -> dict[str, Any]:
    """A batch for which a crowded card has no room: whether memory ran out, and whether the job was delivered.

    Another program takes the card's memory once the worker has the model loaded, and leaves less and less of it.
    """
    if rig.device.accelerator is Accelerator.CPU:
        return {"not_measured": "the CPU has no memory of its own"}
    side, batch = sizes.heavy
    rows = []
    for leave_gib in LEFT_GIB:
        with sides.worker_side(CROWD_ARGUMENTS, rig.of((sizes.sd15,)), SETTINGS) as whole:
            own = whole.of(rig.of((sizes.sd15,)))
            own.time(argparse.Namespace(side=sizes.sides[0], steps=2, jobs=1, n=1), 1)
            with _crowd(rig, leave_gib):
                began = time.perf_counter()
                whole.requester.ask(argparse.Namespace(side=side, steps=4, n=batch), [(sizes.sd15, 77)])
                whole.requester.wait_for(own.done + batch)
                took = time.perf_counter() - began
            log = (whole.log.parent / "bridge.log").read_text(errors="replace")
        ran_out = "memory" in log and "render_retry" in log
        rows.append({"left_gib": leave_gib, "ran_out": ran_out, "delivered": batch, "seconds": round(took, 1)})
        if ran_out:
            break
    return {"side": side, "batch": batch, "tries": rows}


#: How much of the card another program leaves, until memory runs out.
LEFT_GIB = (4.0, 2.0, 1.0, 0.5)
CROWD_ARGUMENTS = argparse.Namespace(engine_threads=0, api_latency=0.0, upload_latency=0.0)
CROWD = """
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(max(0, free - int(float(sys.argv[1]) * 2**30)), dtype=torch.uint8, device="cuda")
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def _crowd(rig: sides.Rig, leave_gib: float) -> Iterator[None]:
    command = [str(rig.runtime.engine_python), "-c", CROWD, str(leave_gib)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            if other.stdout.readline().strip() != "ready":
                raise SystemExit("the program that was to fill the card's memory did not start")
            yield
        finally:
            other.kill()


def safety(rig: sides.Rig, sizes: Sizes) -> dict[str, Any]:
    """Seconds for a check of one image with horde-safety's networks (random weights), on the CPU and on the card."""
    found: dict[str, Any] = {"cpu": asyncio.run(_safety(rig, sizes, "cpu"))}
    if rig.device.accelerator is not Accelerator.CPU:
        found["card"] = asyncio.run(_safety(rig, sizes, "cuda"))
    return found


async def _safety(rig: sides.Rig, sizes: Sizes, device: str) -> dict[str, Any]:
    child = [str(rig.runtime.engine_python), str(RANDOM_CHILD), str(CHILD), "--device", device]
    folder = rig.scratch / f"safety-{device}"
    environment = {"AIWORKER_CACHE_HOME": str(folder / "cache"), "PYTHONWARNINGS": "ignore"}
    settings = SafetySettings(
        (*child, *(["--full-size"] if sizes.full else [])), folder, folder / "safety.log", environment
    )
    process = SafetyProcess(settings)
    began = time.perf_counter()
    try:
        await process.start()
        while await process.said():
            pass
        ready = time.perf_counter() - began
        side = sizes.sides[1]
        image = RawImage(side, side, "RGB", os.urandom(side * side * 3))
        took = []
        for _ in range(CHECKS):
            began = time.perf_counter()
            await process.ask(image, prompt="a fox", model={})
            took.append(time.perf_counter() - began)
    except SafetyUnavailable as error:
        return {"not_measured": str(error)}
    finally:
        await process.stop()
    return {"ready_s": round(ready, 1), "check_s": round(statistics.median(took[1:]), 3), "side": side}


#: What can be measured beside the comparisons, by the name that --only takes.
PARTS: dict[str, Callable[[sides.Rig, Sizes], Any]] = {
    "engine start": engine_start,
    "model switch": model_switch,
    "memory": memory,
    "out of memory": out_of_memory,
    "safety": safety,
}
