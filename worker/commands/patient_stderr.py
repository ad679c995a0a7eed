"""A standard error that nobody waits for: a terminal stopped by Ctrl+S or by a selection, a reader that sleeps."""

import contextlib
import io
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Pieces kept for a terminal that takes none; what comes then is left out.
MOST_PIECES = 2_000
#: Seconds for the last pieces at the end.
LAST_WORDS_S = 2.0
#: Between two looks at a terminal that takes nothing and does not wait, in seconds.
RETRY_S = 0.1


@contextmanager
def patient_stderr(*, last_words_s: float = LAST_WORDS_S) -> Iterator[None]:
    """Within the block a thread writes to standard error, so that jobs go on while it takes nothing."""
    before = sys.stderr
    buffer = getattr(before, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # with PYTHONUNBUFFERED there is none between
    if raw is None:  # no file, as in tests
        yield
        return
    before.flush()
    patient = _Patient(before, raw)
    sys.stderr = patient
    try:
        yield
    finally:
        sys.stderr = before
        patient.end(last_words_s)


class _Patient(io.TextIOBase):
    """Writes to the file below the stream: a thread that hangs in the stream itself keeps a lock that the end needs."""

    def __init__(self, stream: Any, raw: io.RawIOBase) -> None:
        self._stream = stream
        self._raw = raw
        self._left_out = 0
        self._pieces: queue.Queue[str | None] = queue.Queue(MOST_PIECES)
        self._thread = threading.Thread(target=self._carry, name="standard error", daemon=True)
        self._thread.start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._stream.encoding)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def write(self, text: str) -> int:
        try:
            self._pieces.put_nowait(text)
        except queue.Full:
            self._left_out += 1
        return len(text)

    def end(self, limit_s: float) -> None:
        """Write what is left, though not for longer than this."""
        with contextlib.suppress(queue.Full):
            self._pieces.put(None, timeout=limit_s)
            self._thread.join(limit_s)

    def _carry(self) -> None:
        ends = False
        while not ends:
            piece = self._pieces.get()
            ends = piece is None
            text = piece or ""
            if self._left_out and self._pieces.empty():
                text += f"({self._left_out} lines are left out: nothing took them)\n"
                self._left_out = 0
            with contextlib.suppress(OSError, ValueError):
                self._to_the_end(text.encode(self.encoding, "replace"))

    def _to_the_end(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = self._raw.write(rest)
            if not written:  # another program has made the terminal such that it does not wait
                time.sleep(RETRY_S)
            rest = rest[written or 0 :]
