r"""Commands in messages, as an owner can type them here.

Messages name `horde-bridge doctor` and update-runtime. Those are programs where a wheel is installed; in a clone or an
unpacked archive they are ./horde-bridge.sh, .\horde-bridge.cmd and their like, and no shell finds the bare names. The
launchers tell by a variable which of them was called.
"""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Final

#: Set by the launchers to their own file name.
VARIABLE: Final = "HORDE_BRIDGE_LAUNCHER"
LAUNCHERS: Final = ("horde-bridge.sh", "horde-bridge-rocm.sh", "horde-bridge.cmd", "horde-bridge-directml.cmd")
#: The first words after the program's name; a service may be called horde-bridge too.
COMMANDS: Final = (
    "run", "demo", "setup", "doctor", "takeover", "benchmark", "update", "status", "pause", "resume", "finish",
    "render", "maintenance", "config", "service", "models", "engine", "workflows", "--version",
)  # fmt: skip
ROOT: Final = Path(__file__).resolve().parents[1]
_NAMED: Final = re.compile(
    rf"(?<![\w./\\@-])(?:(?<=`)horde-bridge(?=`)|horde-bridge(?= (?:{'|'.join(COMMANDS)})(?![\w-]))"
    r"|update-runtime(?![\w-]|\.\w))"
)


def as_typed(text: str) -> str:
    """`text` with the commands in it as the owner who called a launcher can type them from his folder."""
    launcher = os.environ.get(VARIABLE, "")
    if launcher not in LAUNCHERS or ("horde-bridge" not in text and "update-runtime" not in text):
        return text
    ending = Path(launcher).suffix
    names = {"horde-bridge": _path_to(launcher), "update-runtime": _path_to(f"update-runtime{ending}")}
    return _NAMED.sub(lambda found: names[found[0]], text)


def _path_to(script: str) -> str:
    """How the shell is told to run a file of the worker's folder."""
    windows = sys.platform == "win32"
    if _is_here():
        return f".\\{script}" if windows else f"./{script}"
    path = str(ROOT / script)
    if windows:
        return f'"{path}"' if " " in path else path
    return shlex.quote(path)


def _is_here() -> bool:
    try:
        return Path.cwd() == ROOT
    except OSError:  # a folder that is gone
        return False
