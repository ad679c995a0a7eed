"""Starts ComfyUI's main.py in the engine's own Python, tied to the worker.

    python launch.py COMFYUI_FOLDER ARGUMENTS…

Standard input is a pipe that nothing is written to; its end means that the worker is gone, however that happened, on
every system. Linux also kills an engine whose interpreter hangs. Printing never fails: with a full disk, jobs go on
without a log. Standard library only.
"""

import ctypes
import io
import os
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import Any

#: prctl(2): the signal to get when the parent dies.
PR_SET_PDEATHSIG = 1


def kill_with_parent() -> None:
    """Have the system kill this process when the worker ends, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_parent() -> None:
    """End this process at once when the worker ends."""
    kill_with_parent()
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def wait_for_the_end() -> None:
        while os.read(lifeline, 64):
            pass
        os._exit(1)

    threading.Thread(target=wait_for_the_end, name="lifeline", daemon=True).start()


class Forgiving(io.RawIOBase):
    """A file that never fails: what can't be written is dropped."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """`data`: anything with bytes in it."""
        try:
            return os.write(self._number, data)
        except OSError:
            return memoryview(data).nbytes


def print_whatever_happens() -> None:
    """Replace standard output and error: ComfyUI prints while it samples, and an error there would fail the job."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = io.TextIOWrapper(
            io.BufferedWriter(Forgiving(number)), "utf-8", "backslashreplace", line_buffering=True
        )
        setattr(sys, name, stream)
        # ComfyUI wraps the buffer in its own stream; this one must stay referenced, or it closes the shared buffer.
        setattr(sys, f"__{name}__", stream)


def main() -> None:
    comfyui, *arguments = sys.argv[1:]
    die_with_parent()
    print_whatever_happens()
    # By their paths: the engine's environment has no package `worker`.
    here = Path(__file__)
    logs = runpy.run_path(str(here.with_name("child_log.py")))
    logs["stay_with_log"](1, 2)
    logs["keep_trace"]()
    script = os.path.join(comfyui, "main.py")  # noqa: PTH118 - main.py compares this with its own idea of a path
    sys.path[0] = comfyui
    sys.argv = [script, *arguments]
    os.chdir(comfyui)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
