"""Show the status: as a log block at intervals or at the bottom of a terminal; warn when no jobs come."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from loguru import logger
from rich.console import Console
from rich.live import Live
from rich.text import Text

from worker.app.context import RunningWorker
from worker.console.status import RULE, read_status, status_lines
from worker.errors import HordeError
from worker.jobs.job import JobEvent, Stage
from worker.scheduling.pop_or_wait import Admission
from worker.untrusted.text import visible

#: Interval for checking whether a block is due, in seconds; also the refresh of the live view.
TICK_S = 1.0
#: Interval between two requests for the account, in seconds.
ACCOUNT_EVERY_S = 300.0


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
    """A background task that shows the status. Plain lines, so that they read the same in a container's log and a file.

    With `at_bottom` the lines stay at the bottom of the terminal instead, and go to the log file.
    """

    def __init__(self, facts: Sequence[Callable[[], str]] = (), *, at_bottom: bool = False) -> None:
        """`facts` return further lines at each refresh."""
        self._facts = facts
        self._at_bottom = at_bottom
        self._account = ""
        self._since = 0.0
        self._warned = False

    async def __call__(self, running: RunningWorker) -> None:
        self._since = asyncio.get_running_loop().time()
        running.events.subscribe(self._note)
        if not self._at_bottom:
            await self._attend(running, None)
        with live_view() as view:
            await self._attend(running, view)

    async def _attend(self, running: RunningWorker, view: LiveView | None) -> None:
        loop = asyncio.get_running_loop()
        shown_at, asked_at = loop.time(), float("-inf")
        while True:
            await asyncio.sleep(TICK_S)
            now, settings = loop.time(), running.live.data
            self._warn_if_idle(
                running.admission, settings.minutes_allowed_without_jobs, quiet=settings.suppress_speed_warnings
            )
            period_s = settings.status_period_s
            if period_s is None:
                if view is not None:
                    view.show(())
                continue
            if now - asked_at >= ACCOUNT_EVERY_S:
                asked_at = now
                self._account = await account_line(running)
            if view is not None:
                view.show(self._lines(running))
            if now - shown_at >= period_s:
                shown_at = now
                level = "SUCCESS" if view is None else "DEBUG"
                logger.bind(action="status").log(level, "\n{}", "\n".join((RULE, *self._lines(running), RULE)))

    def _lines(self, running: RunningWorker) -> list[str]:
        facts = [*(fact() for fact in self._facts), self._account]
        return status_lines(read_status(running, since=self._since, facts=facts))

    def _note(self, event: JobEvent) -> None:
        if event.stage is Stage.POPPED:
            self._warned = False

    def _warn_if_idle(self, admission: Admission, minutes: int, *, quiet: bool) -> None:
        idle_min = admission.in_vain_s / 60
        if minutes and idle_min >= minutes and not (quiet or self._warned):
            self._warned = True
            advice = "More models, a larger max_power and more allow_… keys bring more jobs."
            logger.bind(action="idle").warning(
                "No job in {:.0f} minutes of asking. {}", idle_min, admission.passed_over or advice
            )


async def account_line(running: RunningWorker) -> str:
    """The account and its kudos; empty if the Horde does not answer."""
    try:
        user = await running.horde.find_user()
    except HordeError as error:
        logger.debug("The account cannot be looked up: {}", error)
        return ""
    return f"Account {user.username}: {user.kudos:.0f} kudos" if user.username else ""
