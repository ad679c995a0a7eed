"""When to send: waits between tries, and no more requests than the server takes. Pure; the caller brings the clock."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on after failures that may pass.

    An answer of the server's own that helps nobody (a 500, garbage) is tried again a few times, for it can be final.
    No answer at all, or one by what stands in between (502, 503, 504 and above), is tried again until the deadline: it
    says nothing about the request, and passes.
    """

    #: tries in all when the server answers each
    tries: int
    #: the deadline for callers that name none, in seconds from the first try
    within_s: float
    first_wait_s: float = 0.5
    longest_wait_s: float = 10.0

    def wait_s(self, failures: int, draw: float) -> float:
        """Seconds after the `failures`th failure: doubling, a half of it at random. `draw`: from 0 to 1."""
        doublings = min(failures - 1, 30)
        longest = min(self.longest_wait_s, self.first_wait_s * 2.0**doublings)
        return longest * (1 + draw) / 2


@dataclass
class Pace:
    """At most `count` requests in any `per_s` seconds."""

    count: int
    per_s: float
    _sent: deque[float] = field(default_factory=deque, init=False)

    def reserve(self, now: float) -> float:
        """Take the next free place; returns the seconds to wait for it. `now`: a monotonic clock, in seconds."""
        place = now
        if len(self._sent) == self.count:
            place = max(now, self._sent.popleft() + self.per_s)
        self._sent.append(place)
        return place - now
