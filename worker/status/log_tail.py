"""The last lines of the log, as the log has them: no secrets, no foreign control characters."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from loguru import logger

from worker.status.snapshot import LogLine

if TYPE_CHECKING:
    from loguru import Message

#: Lines kept, and characters of one.
MOST_LINES, LONGEST_LINE = 500, 2_000


class LogTail:
    """Listens while `listening`."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=MOST_LINES)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take every line of INFO and above that is logged in the block."""
        sink = logger.add(self._take, level="INFO", format="{message}")
        try:
            yield
        finally:
            logger.remove(sink)

    def last(self, count: int) -> tuple[LogLine, ...]:
        """The last so many lines, the earliest first."""
        return tuple(islice(self._lines, max(0, len(self._lines) - count), None))

    def _take(self, message: "Message") -> None:
        record = message.record
        self._lines.append(LogLine(record["time"].timestamp(), record["level"].name, record["message"][:LONGEST_LINE]))
