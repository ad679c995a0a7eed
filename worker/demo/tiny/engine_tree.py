"""A copy of the ComfyUI tree that takes models of a fraction of the real size for the real ones.

ComfyUI finds out about a model from its file, but some sizes are fixed: text encoders' in JSON files beside the code,
some transformers' in the code. The copy is real ComfyUI code with smaller numbers there, and the owner's own tree
stays as it is. Files are copied, not linked: the code looks for the JSON files beside the real path of its modules.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from .changes import CODE_CHANGES, CONFIG_CHANGES, Change

#: Top-level folders not needed to run, or the owner's data.
LEFT_OUT = ("models", "input", "output", "temp", "user", "tests", "tests-unit", ".git", ".github")

STAMP = ".tiny"
#: What of the numbers stands in no known place of a tree, a line each.
UNCHANGED = ".tiny-unchanged"


def copy_engine_tree(source: Path, target: Path, *, as_far_as_possible: bool = False) -> list[str]:
    """Make `target` a copy of `source` with the smaller numbers; what is there and up to date is kept.

    Raises ValueError when `source` is such a copy, or another ComfyUI than those whose numbers are known; with
    `as_far_as_possible` what is not known stays, and is returned.
    """
    stamp = _stamp(source)
    if (target / STAMP).is_file() and (target / STAMP).read_text() == stamp:
        return (target / UNCHANGED).read_text().splitlines() if (target / UNCHANGED).is_file() else []
    if (source / STAMP).exists():
        raise ValueError(f"{source} is itself a copy with smaller numbers; name the ComfyUI it was made from")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=lambda folder, names: _left_out(source, Path(folder), names))
    unchanged = []
    for name in CONFIG_CHANGES:
        if as_far_as_possible and not (source / name).is_file():
            unchanged.append(f"there is no {name}")
            continue
        (partial / name).write_text(json.dumps(_changed_config(source, name), indent=2))
    for change in CODE_CHANGES:
        try:
            _apply(change, partial)
        except (OSError, ValueError) as error:
            if not as_far_as_possible:
                raise
            unchanged.append(str(error))
    if unchanged:
        (partial / UNCHANGED).write_text("\n".join(unchanged))
    (partial / STAMP).write_text(stamp)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return unchanged


def _changed_config(source: Path, name: str) -> dict[str, Any]:
    return {**json.loads((source / name).read_text()), **CONFIG_CHANGES[name]}


def _apply(change: Change, tree: Path) -> None:
    path = tree / change.file
    if change.newer and not path.is_file():
        return
    code = path.read_text()
    start = code.find(change.where)
    at = code.find(change.old, start)
    if (start < 0 or at < 0) and change.newer:
        return
    if start < 0 or at < 0:
        raise ValueError(f"{change.file} has no {change.old!r} after {change.where!r}: another ComfyUI than expected")
    path.write_text(code[:at] + change.new + code[at + len(change.old) :])


def _left_out(source: Path, folder: Path, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or (folder == source and name in LEFT_OUT)}


def _stamp(source: Path) -> str:
    """Changes when ComfyUI's version, its place, or what we change in it does."""
    version = (source / "comfyui_version.py").read_text()
    what = [str(source), version, CONFIG_CHANGES, CODE_CHANGES, LEFT_OUT]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()
