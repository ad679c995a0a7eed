"""Parts of the card's measurement that compare no throughput: starts, switches of model, memory, safety."""

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sides
from card_cases import Sizes

from worker.engine.install.machine import Accelerator
from worker.engine.process import EngineProcess

#: Engines started one after the other.
STARTS = 3
#: Switches between two models, for each place that the weights come from.
SWITCHES = 3


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


def has_card(rig: sides.Rig) -> bool:
    """Whether the device has memory of its own."""
    return rig.device.accelerator is not Accelerator.CPU


#: What can be measured beside the comparisons, by the name that --only takes.
PARTS: dict[str, Callable[[sides.Rig, Sizes], Any]] = {
    "engine start": engine_start,
    "model switch": model_switch,
}
