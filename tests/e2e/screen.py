"""A terminal of 80 columns with a program in it: what is typed, and what is seen."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: For everything a test waits for.
PATIENCE_S = 180.0


@dataclass
class Screen:
    """A program on a terminal."""

    pid: int
    terminal: int
    seen: str = ""
    _looked: int = 0

    def wait_for(self, text: str) -> str:
        """What is shown up to `text`, from the last look on."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen[self._looked :]:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} was not shown:\n{self.seen}")
        end = self.seen.index(text, self._looked) + len(text)
        shown, self._looked = self.seen[self._looked : end], end
        return shown

    def type(self, text: str, *, end: str = "\n") -> None:
        """Type as a person does: after the question is there and its reader listens."""
        time.sleep(0.2)
        os.write(self.terminal, (text + end).encode("utf-8", "surrogateescape"))

    def answer(self, question: str, text: str = "") -> None:
        self.wait_for(question)
        self.wait_for("]: " if question[-1] != ":" else " ")
        self.type(text)

    def finish(self) -> int:
        """Read on until the program ends; its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.terminal], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(f"nothing more was shown:\n{self.seen}")
        with contextlib.suppress(OSError):  # the program has ended
            if data := os.read(self.terminal, 65536):
                text = data.decode("utf-8", "replace").replace("\r\n", "\n")
                self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
                return True
        return False


@contextlib.contextmanager
def on_terminal(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], *, columns: int = 80
) -> Iterator[Screen]:
    """`python -m worker.cli ARGUMENTS` on a terminal of its own; ended with the block."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-m", "worker.cli", *arguments], dict(environment))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    screen = Screen(pid, terminal)
    try:
        yield screen
    finally:
        if screen.pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
