"""The making of each part: environments by `environments`, ComfyUI's tree by `tree`."""

import time
from pathlib import Path

from worker.engine.install import tree
from worker.engine.install.environments import Builder
from worker.engine.install.layout import Runtime, packages_folder
from worker.engine.install.plan import Step, ingredients
from worker.engine.install.record import Part, PartRecord, Record


def carry_out(step: Step, runtime: Runtime, builder: Builder, record: Record) -> Record:
    """Make one part, and record it, as not ready before anything that counts is touched: what fails earlier changed
    nothing, what fails later leaves a part that must be made anew. Raises RuntimeMissing.
    """
    began, choices = time.monotonic(), record.choices
    made_from = ingredients(runtime, record)[step.part]

    def begin() -> None:
        record.with_part(step.part, PartRecord(ready=False, made_from=made_from)).save(runtime.state)

    packages: tuple[str, ...] = ()
    python = choices.comfyui_python
    match step.part:
        case Part.COMFYUI:  # replaced whole or not at all
            _comfyui(runtime.folder / "comfyui", builder, record)
        case Part.ENGINE if python:
            builder.shell.run(
                [python, "-c", "import aiohttp, torch"],
                log="engine",
                remedy=f"{python} must be able to import torch and aiohttp, as it does for your ComfyUI.",
            )
        case Part.WORKER:
            builder.worker(runtime.folder / "worker", dev=choices.dev, begin=begin)
            packages = _packages(runtime, builder, step.part)
        case Part.ENGINE:
            # Another ComfyUI knows best what it needs.
            own = choices.comfyui or choices.comfyui_git
            builder.engine(
                runtime.folder / "engine", runtime.comfyui / "requirements.txt" if own else None, begin=begin
            )
            packages = _packages(runtime, builder, step.part)
    record = record.with_part(step.part, PartRecord(True, made_from, packages))
    record.save(runtime.state)
    builder.shell.screen.say(f"      done in {time.monotonic() - began:.0f} s")
    return record


def _comfyui(place: Path, builder: Builder, record: Record) -> None:
    if record.choices.comfyui:
        tree.inspect(Path(record.choices.comfyui))
    elif record.choices.comfyui_git:
        tree.clone(record.choices.comfyui_git, place, builder.shell)
    else:
        tree.fetch_pinned(place, builder)


def _packages(runtime: Runtime, builder: Builder, part: Part) -> tuple[str, ...]:
    """The .dist-info folders of a finished environment."""
    folder = packages_folder(runtime.folder / part.value, builder.interpreter.version)
    return tuple(sorted(path.name for path in folder.glob("*.dist-info")))
