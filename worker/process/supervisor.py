"""Keeps one child process running: starts it, and starts it again whenever it ends.

Engines and the safety checker differ in what they do while they run, and in nothing of this.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn

from loguru import logger

from worker.clock import Clock, monotonic
from worker.errors import WorkerError


@dataclass
class RestartPolicy:
    """How long to wait before the next start: longer after each death in a row, and very long after too many.

    Pure: the caller brings the clock, in seconds.
    """

    #: seconds before the first, second, third … restart in a row
    backoff_s: tuple[float, ...] = (0.0, 2.0, 10.0, 30.0, 60.0)
    #: more deaths than this within `window_s`, and the child is set aside
    limit: int = 5
    window_s: float = 3600.0
    #: a child that served this long was sound; deaths before it no longer count
    stable_s: float = 600.0
    #: how long a child that is set aside rests before its next start
    set_aside_s: float = 900.0
    _deaths: deque[float] = field(default_factory=deque, repr=False)
    _distrusted: bool = field(default=False, repr=False)

    def distrust(self) -> None:
        """The next death sets the child aside, however few there were: what it does is worse than dying."""
        self._distrusted = True

    def died(self, now: float, *, served_s: float = 0.0) -> float:
        """Count a death after `served_s` seconds of service; returns the seconds to wait before the next start."""
        if served_s >= self.stable_s:
            self._deaths.clear()
        self._deaths.append(now)
        while self._deaths and self._deaths[0] <= now - self.window_s:
            self._deaths.popleft()
        if len(self._deaths) > self.limit or self._distrusted:
            self._deaths.clear()
            self._distrusted = False
            return self.set_aside_s
        return self.backoff_s[min(len(self._deaths), len(self.backoff_s)) - 1]


@dataclass(eq=False)
class Supervisor:
    """Runs one life of a child after another.

    `life` starts the child, serves, and sees to it that the process is gone before it ends. It calls `serving` once the
    child can be used. It returns when the child is to be replaced at once, and raises why the child was lost
    otherwise; whatever else it raises is a defect of this program and costs this child its life, never the worker.
    """

    name: str
    life: Callable[[], Awaitable[None]]
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    #: called after each loss with its reason and the seconds until the next start
    on_down: Callable[[WorkerError, float], None] = lambda _error, _pause_s: None
    clock: Clock = monotonic
    #: starts after a loss
    restarts: int = field(default=0, init=False)
    #: lives in a row that ended before the child could be used
    failed_starts: int = field(default=0, init=False)
    _last_reason: str = field(default="", init=False)
    #: when the child became usable in this life
    _serving_since: float | None = field(default=None, init=False)

    def serving(self) -> None:
        """The child can be used from now on."""
        self._serving_since = self.clock()
        self.failed_starts = 0

    @property
    def served_s(self) -> float:
        """Seconds for which the child has been usable in this life."""
        return 0.0 if self._serving_since is None else self.clock() - self._serving_since

    async def run(self) -> NoReturn:
        """Keep the child running until cancelled."""
        while True:
            self._serving_since = None
            try:
                await self.life()
            except WorkerError as error:
                await self._down(error)
            except Exception as error:
                logger.exception("A defect in the worker: the {} can't be run", self.name)
                await self._down(WorkerError(f"internal error: {type(error).__name__}: {error}."))

    async def _down(self, reason: WorkerError) -> None:
        self.restarts += 1
        if self._serving_since is None:
            self.failed_starts += 1
        pause_s = self.policy.died(self.clock(), served_s=self.served_s)
        self.on_down(reason, pause_s)
        then = f"Next start in {pause_s:.0f} s." if pause_s else "Starting it again."
        # The reason is said once: a lasting one would fill the log with the same paragraph.
        again = str(reason) == self._last_reason and self.failed_starts > 1
        self._last_reason = str(reason)
        logger.bind(action="child_down", child=self.name, pause_s=pause_s).error(
            "The {} is down{} {}", self.name, " again for the same reason." if again else f": {reason}", then
        )
        await asyncio.sleep(pause_s)
