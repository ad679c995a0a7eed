"""What a ComfyUI tree says of itself, without running it."""

import re
from pathlib import Path

#: The file is a hundred bytes.
VERSION_MAX_BYTES = 4096
_VERSION = re.compile(r"""^__version__\s*=\s*["']([\w.+-]{1,40})["']""", re.MULTILINE)


def version_of(tree: Path) -> str:
    """ComfyUI's version, such as 0.3.75; empty where the tree does not tell."""
    try:
        with (tree / "comfyui_version.py").open("rb") as file:
            found = _VERSION.search(file.read(VERSION_MAX_BYTES).decode(errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""
