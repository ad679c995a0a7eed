"""The log of a child process, begun anew where it was moved or deleted, as programs that rotate logs expect it.

A child writes to the file that it was started with, which goes on under its new name, or under none. Standard library
only, and nothing of the worker: it runs in the engine's environment, before anything of ComfyUI does.
"""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

#: Names the file; set for each child.
VARIABLE = "AIWORKER_LOG"
#: Seconds between two looks, for which lines may go to the file that was there before.
LOOK_S = 10.0


def stay_with_log(*descriptors: int, look_s: float = LOOK_S) -> None:
    """Have these descriptors write to the file that the environment names, whatever others do with it meanwhile."""
    name = os.environ.get(VARIABLE)
    # Windows neither moves nor deletes a file that is open.
    if not name or sys.platform == "win32":
        return

    def watch() -> None:
        while True:
            time.sleep(look_s)
            # What can't be written is no log: a full disk ends no engine.
            with contextlib.suppress(OSError):
                _begin_anew_if_gone(Path(name), descriptors)

    threading.Thread(target=watch, name="log", daemon=True).start()


def _is_in_place(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _begin_anew_if_gone(file: Path, descriptors: tuple[int, ...]) -> None:
    if all(_is_in_place(file, each) for each in descriptors):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as begun:
        for each in descriptors:
            os.dup2(begun.fileno(), each)
