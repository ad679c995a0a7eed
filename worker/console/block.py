"""The status, as a block every so often or at the bottom of a terminal; warnings when nothing is earned."""

import asyncio
from collections.abc import Callable, Sequence

from loguru import logger

from worker.app.context import Running
from worker.console.live import View, live_view
from worker.console.status import RULE, lines, look
from worker.errors import HordeError
from worker.jobs.job import JobEvent, Stage

#: How often the settings are asked whether and when a block is due.
TICK_S = 1.0
#: How often the account is looked up.
ACCOUNT_EVERY_S = 300.0


class StatusBlock:
    """An attendant. Plain lines, so that they read the same in a container's log and a file.

    `at_bottom` keeps them at the bottom of the terminal instead, and in the log file.
    """

    def __init__(self, facts: Sequence[Callable[[], str]] = (), *, at_bottom: bool = False) -> None:
        """`facts` are asked for further sentences each time."""
        self._facts = facts
        self._at_bottom = at_bottom
        self._account = ""
        self._since = 0.0
        self._last_pop_at = 0.0
        self._warned = False

    async def __call__(self, running: Running) -> None:
        self._since = self._last_pop_at = asyncio.get_running_loop().time()
        running.events.subscribe(self._note)
        if not self._at_bottom:
            await self._attend(running, None)
        with live_view() as view:
            await self._attend(running, view)

    async def _attend(self, running: Running, view: View | None) -> None:
        loop = asyncio.get_running_loop()
        shown_at, asked_at = loop.time(), float("-inf")
        while True:
            await asyncio.sleep(TICK_S)
            now, settings = loop.time(), running.live.data
            self._warn_of_idleness(now, settings.minutes_allowed_without_jobs, quiet=settings.suppress_speed_warnings)
            period_s = settings.status_period_s
            if period_s is None:
                continue
            if now - asked_at >= ACCOUNT_EVERY_S:
                asked_at = now
                self._account = await account(running)
            if view is not None:
                view.show(self._lines(running))
            if now - shown_at >= period_s:
                shown_at = now
                level = "SUCCESS" if view is None else "DEBUG"
                logger.bind(action="status").log(level, "\n{}", "\n".join((RULE, *self._lines(running), RULE)))

    def _lines(self, running: Running) -> list[str]:
        facts = [*(fact() for fact in self._facts), self._account]
        return lines(look(running, since=self._since, last_pop_at=self._last_pop_at, facts=facts))

    def _note(self, event: JobEvent) -> None:
        if event.stage is Stage.POPPED:
            self._last_pop_at = event.job.popped_at
            self._warned = False

    def _warn_of_idleness(self, now: float, minutes: int, *, quiet: bool) -> None:
        idle_min = (now - self._last_pop_at) / 60
        if minutes and idle_min >= minutes and not (quiet or self._warned):
            self._warned = True
            logger.bind(action="idle").warning(
                "No job came for {:.0f} minutes. More come with more models, a larger max_power and more allow_… keys.",
                idle_min,
            )


async def account(running: Running) -> str:
    """What the account has; empty when the Horde does not say."""
    try:
        user = await running.horde.find_user()
    except HordeError as error:
        logger.debug("The account can't be looked up: {}", error)
        return ""
    return f"Account {user.username}: {user.kudos:.0f} kudos" if user.username else ""
