"""A terminal of 80 columns with a program in it: what is typed, and what is seen."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.preloaded import Forked, start

#: For everything a test waits for.
PATIENCE_S = 180.0


@dataclass
class Screen:
    """A program on a terminal."""

    process: "subprocess.Popen[bytes] | Forked"
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
        return self.process.wait(PATIENCE_S)

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
    python: Path, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], *, columns: int = 80
) -> Iterator[Screen]:
    """`python -m worker.cli ARGUMENTS` on a terminal of its own; ended with the block."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = start(
        python, ["-m", "worker.cli", *arguments], cwd=folder, env=environment, stdin=inside, stdout=inside,
        stderr=inside,
    )  # fmt: skip
    os.close(inside)
    try:
        yield Screen(process, terminal)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        os.close(terminal)
