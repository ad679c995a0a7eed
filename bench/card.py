"""What a card makes of the worker: throughput beside bare ComfyUI, switches of model, start, memory, out-of-memory.

Needs no network and no real weights. Models of the published sizes with random weights are made first (once, about
35 GB on disk; `--small` and a CPU take the tiny ones). Both sides compute the same graphs in the same run, in turns.
The figure is the smallest ratio bare ÷ worker seconds over all groups with a bare side.

    python bench/card.py [--card auto|cuda|rocm|cpu] [--only GROUP …] [--turns 2] [--out FILE]

`--list` names the groups. What can't be measured here stands in the answer with its reason.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import card_cases
import card_parts
import sides
from card_cases import Case, Group, Sizes

from worker.engine.client import EngineClient
from worker.engine.devices import Device
from worker.engine.install import Runtime
from worker.engine.install.machine import Accelerator, Host, detect_card

#: Whole worker ÷ bare ComfyUI on a card.
GOAL = 0.98


@dataclass
class Report:
    """What was measured, written out after each part: a run that is cut short leaves what it had."""

    file: Path | None
    content: dict[str, Any]

    def add(self, name: str, measure: Callable[[], Any]) -> None:
        """Measure a part; one that fails is named and leaves the others alone."""
        began = time.perf_counter()
        try:
            found = measure()
        except (Exception, SystemExit) as error:
            found = {"failed": f"{type(error).__name__}: {error}"[:500]}
        self.content["parts"][name] = found
        print(f"{name}: {json.dumps(found)} [{time.perf_counter() - began:.0f} s]", file=sys.stderr)
        if self.file:
            self.file.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Both:
    """A bare engine, if there is one, and the whole worker, for jobs of the rig's models."""

    rig: sides.Rig
    client: EngineClient | None
    side: sides.WorkerSide
    turns: int

    async def measure(self, case: Case, *, first: int) -> dict[str, Any]:
        """Images a minute of both sides and their ratio; `first` is the first seed."""
        client = None if case.only_worker else self.client
        side = self.side.of(self.rig)
        warm, arguments = case.arguments(jobs=len(case.models)), case.arguments()
        compared = sides.Turns(case.jobs, [], [])
        if client:
            await sides.time_bare(client, self.rig, warm, first)
        await asyncio.to_thread(side.time, warm, first)
        for turn in range(1, self.turns + 1):
            begin = first + turn * 100_000
            # Who goes first alternates: what drifts, drifts for both.
            for which in ("bare", "whole") if turn % 2 else ("whole", "bare"):
                if which == "whole":
                    compared.whole.append(await asyncio.to_thread(side.time, arguments, begin))
                elif client:
                    compared.bare.append(await sides.time_bare(client, self.rig, arguments, begin))
        return _row(case, compared)


def _row(case: Case, compared: sides.Turns) -> dict[str, Any]:
    def middle(key: str) -> float:
        return statistics.median(turn[key] for turn in compared.whole)

    images = 60 * case.jobs * case.n
    row: dict[str, Any] = {
        "worker_images_per_min": round(images / middle("seconds"), 2),
        "engine_duty": round(middle("duty"), 4),
        "supervisor_cpu": round(middle("cpu"), 4),
    }
    if compared.bare:
        row["bare_images_per_min"] = round(images / statistics.median(compared.bare), 2)
        row["ratio"] = round(statistics.median(compared.ratios), 4)
        row["ratios"] = [round(ratio, 4) for ratio in compared.ratios]
    return row


def measure_group(group: Group, rig: sides.Rig, turns: int) -> dict[str, Any]:
    """All cases of a group, on one bare engine and one worker that take turns."""
    return asyncio.run(_measure_group(group, rig, turns))


async def _measure_group(group: Group, rig: sides.Rig, turns: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    settings = {**card_cases.SETTINGS, **group.settings}
    async with contextlib.AsyncExitStack() as stack:
        client = None
        if any(not case.only_worker for case in group.cases):
            client = await stack.enter_async_context(sides.bare_engine(rig, 0))
        side = stack.enter_context(sides.worker_side(group.cases[0].arguments(), rig, settings))
        for number, case in enumerate(group.cases, start=1):
            # A rig of this case's models: jobs go round them.
            both = Both(rig.of(case.models), client, side, turns)
            found[case.name] = await both.measure(case, first=number * 10_000_000)
        found["pop_to_first_step_s"] = _first_step(side.timeline)
    return found


def _first_step(timeline: Path) -> dict[str, float] | None:
    """From pop to the first step of sampling: of a saturated queue, so that most of it is waiting for the engine."""
    rows = [json.loads(line) for line in timeline.read_text().splitlines()] if timeline.exists() else []
    found = sorted(row["first_step_s"] for row in rows if row["first_step_s"])
    if not found:
        return None
    return {"least": found[0], "median": statistics.median(found), "most": found[-1]}


def smallest_ratio(parts: dict[str, Any]) -> float | None:
    """The figure: over every case that had a bare side."""
    cases = [case for part in parts.values() if isinstance(part, dict) for case in part.values()]
    return min((case["ratio"] for case in cases if isinstance(case, dict) and "ratio" in case), default=None)


def choose_device(asked: str) -> Device:
    """The device to measure. Raises SystemExit where the runtime has no such."""
    installed = Runtime.locate().accelerator
    found = detect_card(Host()).accelerator
    if asked == "auto":
        return Device(found if found is installed and found is not Accelerator.DIRECTML else Accelerator.CPU)
    wanted = Accelerator(asked)
    if wanted is not Accelerator.CPU and wanted is not installed:
        kind = installed.value if installed else "nothing yet"
        raise SystemExit(f"The engine was set up for {kind}, not for {asked}: ./update-runtime.sh --{asked}")
    return Device(wanted)


def build(rig: sides.Rig, sizes: Sizes) -> dict[str, float]:
    """Make all model files; seconds and gigabytes of what lies there then."""
    began = time.perf_counter()
    asyncio.run(rig.build(sizes.files))
    folder = rig.generated.folder / "models"
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"seconds": round(time.perf_counter() - began, 1), "gigabytes": round(held / 1e9, 2)}


def describe_machine(rig: sides.Rig) -> dict[str, Any]:
    """Card, driver, torch and ComfyUI, as the engine's own environment sees them."""
    code = """
import json, platform, sys, torch
card = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
print(json.dumps({
    "python": platform.python_version(), "torch": torch.__version__,
    "cuda": torch.version.cuda, "hip": torch.version.hip,
    "card": card.name if card else None, "memory_gib": round(card.total_memory / 2**30, 1) if card else None,
}))
"""
    said = subprocess.run([str(rig.runtime.engine_python), "-c", code], capture_output=True, text=True, check=True)
    version = (rig.runtime.comfyui / "comfyui_version.py").read_text().split('"')[1]
    return {"device": rig.device.name, "comfyui": version, "cores": card_parts.cores(), **json.loads(said.stdout)}


@contextlib.contextmanager
def rig_of(sizes: Sizes, device: Device) -> Iterator[sides.Rig]:
    """The rig of all models of these sizes, with a scratch folder until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        yield sides.Rig(Path(folder), sizes.models, full_size=sizes.full, device=device)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--card", choices=["auto", "cuda", "rocm", "cpu"], default="auto")
    parser.add_argument("--small", action="store_true", help="tiny models, as on a CPU")
    parser.add_argument("--only", nargs="*", default=[], metavar="GROUP", help="a comparison or a part; see --list")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where the answer is written too, part by part")
    parser.add_argument("--list", action="store_true", help="name what can be measured")
    arguments = parser.parse_args()
    device = choose_device(arguments.card)
    small = arguments.small or device.accelerator is Accelerator.CPU
    sizes = card_cases.SMALL if small else card_cases.FULL
    compared, parts = card_cases.groups(sizes), card_parts.PARTS
    if arguments.list:
        print(json.dumps([*(group.name for group in compared), *parts]))
        return
    only_groups = [name for name in arguments.only if name not in parts]
    chosen = card_cases.wanted(compared, only_groups) if only_groups or not arguments.only else ()
    with rig_of(sizes, device) as rig:
        report = Report(arguments.out, {"name": "card", "machine": describe_machine(rig), "small": small, "parts": {}})
        report.add("models", lambda: build(rig, sizes))
        for group in chosen:
            report.add(group.name, lambda group=group: measure_group(group, rig.of(group.models), arguments.turns))  # type: ignore[misc]
        for name, part in parts.items():
            if not arguments.only or name in arguments.only:
                report.add(name, lambda part=part: part(rig, sizes))  # type: ignore[misc]
    ratio = smallest_ratio(report.content["parts"])
    failed = [name for name, part in report.content["parts"].items() if isinstance(part, dict) and "failed" in part]
    meets = ratio is not None and ratio >= GOAL and not failed
    answer = {"name": "card", "figure": ratio, "goal": GOAL, "meets": meets, "failed": failed, **report.content}
    if arguments.out:
        arguments.out.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
