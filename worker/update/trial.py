"""Watches over a version on trial: if it ends with an error, it is started again, until the version before is taken.

Runs from the copy that `switch` left: code of the version before, which works whatever the new one is like. For Linux
and macOS; the launcher of Windows, which stays while the worker runs, does it itself. Standard library only.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from worker.update.switch import on_trial

#: Names this process to the launchers it starts, by number.
WATCHED: Final = "HORDE_BRIDGE_WATCHED_BY"
LAUNCHER: Final = "horde-bridge.sh"
#: What is handed on: to end, to hasten the end, to read the settings again.
PASSED: Final = ("SIGTERM", "SIGINT", "SIGHUP")
#: prctl(2): the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """`FOLDER [arguments of the worker]`: runs the launcher until it is done; its exit code."""
    root, *rest = sys.argv[1:] if arguments is None else arguments
    watch = _Watch()
    while True:
        code = watch.run(["bash", str(Path(root) / LAUNCHER), *rest])
        journal = on_trial(Path(root))
        # Each start counts, so this ends; after the last one the version before is in its place, and not on trial.
        if code == 0 or watch.is_ended or journal is None:
            return code if code >= 0 else 128 - code
        sys.stderr.write(f"Version {journal.version} ended with {code} before it served. Starting it again.\n")


class _Watch:
    """Runs one child after another; signals go to the one that runs."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        #: whether somebody wants the end
        self.is_ended = False
        for name in PASSED:
            signal.signal(getattr(signal, name), self._pass_on)

    def run(self, command: Sequence[str]) -> int:
        environment = {**os.environ, WATCHED: str(os.getpid())}
        self._child = subprocess.Popen(command, env=environment, preexec_fn=_end_with_parent)  # noqa: PLW1509 - no threads
        if self.is_ended:  # the signal came before there was a child
            self._child.terminate()
        return self._child.wait()

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.is_ended = self.is_ended or number != getattr(signal, "SIGHUP", None)
        # A terminal sends Ctrl+C to all of its foreground: the child has it already, and a second one hastens the end.
        if self._child is None or (number == signal.SIGINT and _is_in_foreground()):
            return
        if self._child.poll() is None:
            self._child.send_signal(number)


def _is_in_foreground() -> bool:
    try:
        return sys.platform != "win32" and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
