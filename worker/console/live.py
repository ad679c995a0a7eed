"""The status as the last lines of a terminal, renewed every second; log lines go by above it."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from worker.console.status import RULE


def wanted() -> bool:
    """Whether standard error is a terminal whose cursor can be moved, and which log lines reach through Python."""
    return (
        sys.platform != "win32"
        and sys.stderr.isatty()
        and os.environ.get("TERM", "") != "dumb"
        and "CI" not in os.environ
    )


class View:
    """What stands at the bottom."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, lines: Sequence[str]) -> None:
        self._live.update(Text("\n".join((RULE, *lines)), no_wrap=True, overflow="ellipsis"), refresh=True)


@contextmanager
def live_view(console: Console | None = None) -> Iterator[View]:
    """While the block lasts, what is written to standard error appears above the view."""
    # Renewed by `show` only: a thread of the library's would wake the process many times a second.
    console = console or Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield View(live)
