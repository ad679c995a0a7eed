"""When to try again. Pure: clocks come in as numbers, decisions go out.

Times are seconds of any monotonic clock.
"""

from collections import deque
from dataclasses import dataclass, field

from worker.errors import EngineError, Retry


@dataclass
class RestartPolicy:
    """How often a dead engine is started again: soon at first, then later and later, then no more for a while."""

    #: seconds before the second, third … restart in a row; the first is at once
    backoff_s: tuple[float, ...] = (0.0, 2.0, 10.0, 30.0, 60.0)
    #: more deaths than this within `window_s` and the slot is set aside
    limit: int = 5
    window_s: float = 3600.0
    #: an engine that served so long was sound; what was before it does not count
    stable_s: float = 600.0
    #: how long a slot that is set aside rests before it gets another chance
    quarantine_s: float = 900.0
    _deaths: deque[float] = field(default_factory=deque, repr=False)

    def died(self, now: float, *, served_s: float = 0.0) -> float:
        """Note a death after so many seconds of service; seconds to wait before the next start."""
        if served_s >= self.stable_s:
            self._deaths.clear()
        self._deaths.append(now)
        while self._deaths and self._deaths[0] <= now - self.window_s:
            self._deaths.popleft()
        if len(self._deaths) > self.limit:
            self._deaths.clear()
            return self.quarantine_s
        return self.backoff_s[min(len(self._deaths), len(self.backoff_s)) - 1]


@dataclass(frozen=True)
class RetryPolicy:
    """Whether a job that an engine failed gets another try."""

    #: tries that an engine began; the Horde counts a fault and a late answer the same, so more only cost other jobs
    attempts: int = 2
    #: tries in all: one that ended before the engine came to the job says nothing of the job
    most_attempts: int = 4
    #: a retry needs at least this share of what the failed attempt took, before the ttl ends
    share_of_first: float = 1.0

    def next_try(self, error: EngineError, *, attempt: int, took_s: float, left_s: float) -> Retry:
        """How to try again after `attempt` tries that an engine began, with `left_s` seconds to go.

        `took_s` is what the engine spent on the last one before it failed: 0 where it had not begun with it.
        """
        if attempt >= self.attempts or left_s <= took_s * self.share_of_first:
            return Retry.NO
        return error.retry
