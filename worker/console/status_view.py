"""Show the status: as a log block at intervals or at the bottom of a terminal; warn when no jobs come."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loguru import logger
from rich.console import Console
from rich.live import Live
from rich.text import Text

from worker.config.live import LiveConfig
from worker.console.status import RULE, status_lines
from worker.status.board import StatusBoard
from worker.untrusted.text import visible

#: Interval for checking whether a block is due, in seconds; also the refresh of the live view.
TICK_S = 1.0


def live_view_supported() -> bool:
    """Whether standard error is a terminal with a movable cursor, to which Python writes log lines itself."""
    return (
        sys.platform != "win32"
        and sys.stderr.isatty()
        and os.environ.get("TERM", "") != "dumb"
        and "CI" not in os.environ
    )


class LiveView:
    """Lines at the bottom of a terminal."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, lines: Sequence[str]) -> None:
        """Replace the lines; none clears the view."""
        shown = (RULE, *map(visible, lines)) if lines else ()
        self._live.update(Text("\n".join(shown), no_wrap=True, overflow="ellipsis"), refresh=True)


@contextmanager
def live_view(console: Console | None = None) -> Iterator[LiveView]:
    """Within the block, whatever is written to standard error appears above the view."""
    # Refreshed by `show` only: the library's own thread would wake the process many times a second.
    console = console or Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield LiveView(live)


class StatusView:
    """A reader of the status. Plain lines, so that they read the same in a container's log and a file.

    With `at_bottom` the lines stay at the bottom of the terminal instead, and go to the log file.
    """

    def __init__(self, live: LiveConfig, *, at_bottom: bool = False) -> None:
        """`live`: the settings say how often, and when to warn."""
        self._live = live
        self._at_bottom = at_bottom
        self._warned = False

    async def __call__(self, status: StatusBoard) -> None:
        if not self._at_bottom:
            await self._attend(status, None)
        with live_view() as view:
            await self._attend(status, view)

    async def _attend(self, status: StatusBoard, view: LiveView | None) -> None:
        loop = asyncio.get_running_loop()
        shown_at = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now, settings = loop.time(), self._live.data
            self._warn_if_idle(status, settings.minutes_allowed_without_jobs, quiet=settings.suppress_speed_warnings)
            period_s = settings.status_period_s
            if period_s is None:
                if view is not None:
                    view.show(())
                continue
            if view is not None:
                view.show(status_lines(status.snapshot()))
            if now - shown_at >= period_s:
                shown_at = now
                level = "SUCCESS" if view is None else "DEBUG"
                lines = status_lines(status.snapshot())
                logger.bind(action="status").log(level, "\n{}", "\n".join((RULE, *lines, RULE)))

    def _warn_if_idle(self, status: StatusBoard, minutes: int, *, quiet: bool) -> None:
        idle_s, passed_over = status.in_vain()
        if not idle_s:
            self._warned = False
        if minutes and idle_s / 60 >= minutes and not (quiet or self._warned):
            self._warned = True
            advice = passed_over or "More models, a larger max_power and more allow_… keys bring more jobs."
            logger.bind(action="idle").warning(
                "No job in {:.0f} minutes of asking. {}", idle_s / 60, passed_over or advice
            )
