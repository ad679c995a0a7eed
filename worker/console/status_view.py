"""Show the status while the worker runs: live at the bottom of a terminal, or as a log block when something is new."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loguru import logger

from worker.config.live import LiveConfig
from worker.console.live_view import Show, live_view
from worker.console.status import MOST_ADVICE, RULE, status_lines, summary_lines
from worker.status.snapshot import Snapshot

if TYPE_CHECKING:
    from worker.status.board import StatusBoard

#: Interval for checking whether a block is due, in seconds; also the refresh of the live view.
TICK_S = 1.0
#: The live view is drawn this often while nothing moves in it, in seconds: drawing is what costs.
STILL_S = 5.0
#: A block that says nothing new is shown this seldom, in seconds.
NOTHING_NEW_S = 600.0


@dataclass(eq=False)
class StatusView:
    """A reader of the status. Plain lines, so that they read the same in a container's log and a file.

    With `at_bottom` the status stays at the bottom of the terminal instead, and the lines go to the log file.
    """

    #: the settings say how often, and when to warn
    live: LiveConfig
    at_bottom: bool = field(default=False, kw_only=True)
    _warned: bool = field(default=False, init=False)
    _shown: tuple[object, ...] = field(default=(), init=False)
    _shown_at: float = field(default=float("-inf"), init=False)
    _seen: tuple[object, ...] | None = field(default=None, init=False)
    _drawn_at: float = field(default=float("-inf"), init=False)

    async def __call__(self, status: "StatusBoard") -> None:
        try:
            with ExitStack() as stack:
                show = stack.enter_context(live_view()) if self.at_bottom else None
                await self._attend(status, show)
        finally:
            self._sum_up(status.snapshot())

    async def _attend(self, status: "StatusBoard", show: Show | None) -> None:
        loop = asyncio.get_running_loop()
        due_at = loop.time()
        while True:
            now, settings = loop.time(), self.live.data
            self._warn_if_idle(status, settings.minutes_allowed_without_jobs, quiet=settings.suppress_speed_warnings)
            period_s = settings.status_period_s
            if show is not None:
                self._show(show, status.snapshot() if period_s else None, now)
            if period_s and now - due_at >= period_s:
                due_at = now
                self._log(status.snapshot(), now, "SUCCESS" if show is None else "DEBUG")
            await asyncio.sleep(TICK_S)

    def _show(self, show: Show, status: Snapshot | None, now: float) -> None:
        """Draw the view anew, though seldom while nothing in it moves but the time."""
        seen = None if status is None else _news(status)
        moves = status is not None and (status.jobs or status.downloads)
        if moves or seen != self._seen or now - self._drawn_at >= STILL_S:
            self._seen, self._drawn_at = seen, now
            show(status)

    def _log(self, status: Snapshot, now: float, level: str) -> None:
        """Log the status as a block, unless it says what the last one said a moment ago."""
        news = _news(status)
        if news == self._shown and now - self._shown_at < NOTHING_NEW_S:
            return
        self._shown, self._shown_at = news, now
        lines = "\n".join((RULE, *status_lines(status), RULE))
        logger.bind(action="status", phase=status.phase.value, **_counts(status)).log(level, "\n{}", lines)

    def _warn_if_idle(self, status: "StatusBoard", minutes: int, *, quiet: bool) -> None:
        idle_s, passed_over = status.in_vain()
        if not idle_s:
            self._warned = False
        if minutes and idle_s / 60 >= minutes and not (quiet or self._warned):
            self._warned = True
            advice = passed_over or "More models, a larger max_power and more allow_… keys bring more jobs."
            logger.bind(action="idle").warning("No job in {:.0f} minutes of asking. {}", idle_s / 60, advice)

    @staticmethod
    def _sum_up(status: Snapshot) -> None:
        if lines := summary_lines(status):
            block = "\n".join((RULE, *lines, RULE))
            logger.bind(action="session_ended", **_counts(status)).success("\n{}", block)


def _counts(status: Snapshot) -> dict[str, Any]:
    """For programs that read the log."""
    total = status.session.total
    return {"jobs": total.jobs, "faulted": total.faulted, "kudos": total.kudos}


def _news(status: Snapshot) -> tuple[object, ...]:
    """What makes a block worth showing: everything but times and amounts that only move on."""
    return (
        status.phase,
        status.session.total,
        tuple((slot.state, slot.failures, slot.job and slot.job.id) for slot in status.slots),
        tuple((pause.kind, pause.sentence) for pause in status.pauses),
        tuple((file.name, file.done_bytes) for file in status.downloads),
        tuple((model.name, model.state) for model in status.models),
        tuple(warning.topic for warning in status.warnings),
        status.passed_over,
        tuple(advice.topic for advice in status.advice[:MOST_ADVICE]),
    )
