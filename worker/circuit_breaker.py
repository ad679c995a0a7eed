"""Stop trying what fails again and again, for a while. Pure: the caller brings the clock.

The same rule serves jobs in a row, models that break engines, and hosts that do not answer.
"""

from collections import deque
from dataclasses import dataclass, field


@dataclass
class CircuitBreaker:
    """Opens after `limit` failures within `window_s` without a success between; a success closes it.

    While it is open nothing should be tried. Each opening in a row lasts twice as long as the one before, up to
    `longest_open_s`; without that, all last `open_s`. Times are seconds of a monotonic clock.
    """

    limit: int
    open_s: float
    window_s: float = float("inf")
    longest_open_s: float | None = None
    #: what the caller said of the last failure
    reason: str = field(default="", init=False)
    #: when it closes by itself
    open_until: float = field(default=float("-inf"), init=False)
    _failures: deque[float] = field(default_factory=deque, init=False)
    _last_open_s: float = field(default=0.0, init=False)

    def failed(self, now: float, reason: str = "") -> bool:
        """Count a failure; whether the breaker opens with it."""
        self.reason = reason
        self._failures.append(now)
        while self._failures[0] <= now - self.window_s:
            self._failures.popleft()
        if len(self._failures) < self.limit:
            return False
        self._failures.clear()
        longest = self.open_s if self.longest_open_s is None else self.longest_open_s
        self._last_open_s = min(2 * self._last_open_s or self.open_s, longest)
        self.open_until = now + self._last_open_s
        return True

    def succeeded(self) -> None:
        """It works again: forget every failure."""
        self._failures.clear()
        self._last_open_s, self.open_until = 0.0, float("-inf")

    def is_open(self, now: float) -> bool:
        return now < self.open_until
