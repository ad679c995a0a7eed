"""What a ComfyUI tree is, and says of itself without being run."""

import re
from pathlib import Path

from worker.untrusted.archives import ArchiveBounds
from worker.workflows.node_classes import PINNED_VERSION, version_numbers

#: The file is a hundred bytes.
VERSION_MAX_BYTES = 4096
_VERSION = re.compile(r"""^__version__\s*=\s*["']([\w.+-]{1,40})["']""", re.MULTILINE)
#: What any ComfyUI has that is new enough to be spoken to.
LANDMARKS = ("main.py", "nodes.py", "server.py", "folder_paths.py", "requirements.txt")
#: 0.33.0 has 1200 files of 40 MB; a hundred times as much is no ComfyUI, but somebody's models.
TREE_BOUNDS = ArchiveBounds(files=50_000, total_bytes=4 * 10**9)
#: An owner's data and what is not needed to run, at the top of a tree.
LEFT_OUT = frozenset({
    "models", "input", "output", "temp", "user", "tests", "tests-unit", ".git", ".github", ".ci", "venv", ".venv",
    "python_embeded", "extra_model_paths.yaml",
})  # fmt: skip


def version_of(tree: Path) -> str:
    """ComfyUI's version, such as 0.3.75; empty where the tree does not tell."""
    try:
        with (tree / "comfyui_version.py").open("rb") as file:
            found = _VERSION.search(file.read(VERSION_MAX_BYTES).decode(errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def is_too_old(tree: Path) -> bool:
    """Whether it is older than any that the worker can speak to. One that does not tell its version is taken as new."""
    version = version_of(tree)
    return bool(version) and version_numbers(version) < version_numbers(PINNED_VERSION)


def missing_in(tree: Path) -> list[str]:
    """Names of what a folder lacks to be a ComfyUI; none if it is one."""
    return [name for name in LANDMARKS if not (tree / name).is_file()]


def is_left_out(path: Path) -> bool:
    """Whether a path, relative to a tree, stays behind when that is copied. Node packs do: ours is loaded alone."""
    if path.name == "__pycache__" or path.parts[0] in LEFT_OUT:
        return True
    return path.parts[0] == "custom_nodes" and len(path.parts) == 2 and path.suffix != ".py"  # noqa: PLR2004 - a pack
