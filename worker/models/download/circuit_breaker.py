"""Leaving a host alone that fails again and again. Pure: the caller brings the clock."""

from dataclasses import dataclass, field


@dataclass
class Breaker:
    """After `limit` failures in a row nothing is asked for `rest_s` seconds. Times are on the caller's clock."""

    limit: int
    rest_s: float
    _failures: int = field(default=0, init=False)
    _rests_until: float = field(default=float("-inf"), init=False)

    def failed(self, now: float) -> bool:
        """Note a failure; whether the rest begins with it."""
        self._failures += 1
        if self._failures < self.limit:
            return False
        self._failures = 0
        self._rests_until = now + self.rest_s
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def rests(self, now: float) -> bool:
        return now < self._rests_until
