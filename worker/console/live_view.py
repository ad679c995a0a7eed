"""The bottom of a terminal, kept up to date, while log lines go by above it."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.live_render import LiveRender
from rich.segment import Segment
from rich.text import Text

from worker.console.table import status_table
from worker.status.snapshot import Snapshot


def live_view_supported() -> bool:
    """Whether standard error is a terminal with a movable cursor, to which Python writes log lines itself."""
    return (
        sys.platform != "win32"
        and sys.stderr.isatty()
        and os.environ.get("TERM", "") != "dumb"
        and "CI" not in os.environ
    )


class ReflowingRender(LiveRender):
    """What stands at the bottom, erased whole also after the terminal was made narrower and wrapped its lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(Text())
        self._console = console
        #: cells of each line that stands there
        self._cells: list[int] = []

    def position_cursor(self) -> Control:
        """To the first line of what stands there, each line on the way erased."""
        self._reflow()
        return super().position_cursor()

    def restore_cursor(self) -> Control:
        self._reflow()
        return super().restore_cursor()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        segments = [each for each in super().__rich_console__(console, options) if isinstance(each, Segment)]
        self._cells = [Segment.get_line_length(line) for line in Segment.split_lines(segments)]
        yield from segments

    def _reflow(self) -> None:
        width, height = self._console.size
        if self._shape is not None and width < self._shape[0]:
            taken = sum(max(1, math.ceil(cells / width)) for cells in self._cells)
            self._shape = (width, min(taken, height))


#: Replaces what is shown; None clears it.
Show = Callable[[Snapshot | None], None]


@contextmanager
def live_view(console: Console | None = None) -> Iterator[Show]:
    """One status after another in the same place: within the block, whatever is written to standard error is above."""
    # Refreshed by `show` only: the library's own thread would wake the process many times a second.
    console = console or Console(stderr=True)
    live = Live(console=console, auto_refresh=False, transient=True)
    live._live_render = ReflowingRender(console)  # noqa: SLF001 - rich has no other way to say how to erase

    def show(status: Snapshot | None) -> None:
        width, height = live.console.size
        shown: RenderableType = Text() if status is None else status_table(status, width=width, height=height)
        live.update(shown, refresh=True)

    with live:
        yield show
