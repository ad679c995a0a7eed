"""A log file that is bounded, and goes on when others move it, empty it or delete its folder, or the disk is full."""

import contextlib
import glob
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

#: Called once for each time that a file can't be written.
Tell = Callable[[Path, OSError], None]


@dataclass(eq=False)
class LogFile:
    """A sink of the log. Raises OSError only when it is made.

    A file that has been moved or deleted is begun anew, as programs that rotate logs expect it. Larger than
    `limit_bytes` it is set aside under the time of that moment; `kept` of those stay.
    """

    path: Path
    limit_bytes: int
    kept: int
    tell: Tell
    _fails: bool = field(default=False, init=False)
    _file: BinaryIO | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.path = self.path.absolute()
        self._open()

    def write(self, text: str) -> None:
        try:
            self._write(text.encode("utf-8", "replace"))
        except OSError as error:
            self._close()
            if not self._fails:
                self._fails = True
                self.tell(self.path, error)
        else:
            self._fails = False

    def stop(self) -> None:
        """Called by loguru when the sink is removed."""
        self._close()

    def _write(self, line: bytes) -> None:
        file = self._file
        if file is None or not self._is_in_place(file):
            self._close()
            file = self._open()
        size = os.fstat(file.fileno()).st_size
        if size and size + len(line) > self.limit_bytes:
            self._close()
            self._set_aside()
            file = self._open()
        file.write(line)

    def _open(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Appended to and unbuffered: a file that is emptied by others goes on from its beginning.
        self._file = self.path.open("ab", buffering=0)
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def _is_in_place(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def _set_aside(self) -> None:
        now = datetime.now()  # noqa: DTZ005 - the owner's clock, as in the lines
        self.path.replace(self.path.with_name(f"{self.path.stem}.{now:%Y-%m-%d_%H-%M-%S_%f}{self.path.suffix}"))
        before = self.path.parent.glob(f"{glob.escape(self.path.stem)}.[0-9]*{self.path.suffix}")
        for each in sorted(before)[: -self.kept]:
            with contextlib.suppress(OSError):
                each.unlink()
