"""When to send: the rate the server allows, and the waits between tries of the same request.

What a 429 says of the wait is read by `worker.untrusted.retry_after`. After one, submits wait here and pops in
`worker.scheduling.pop_backoff`.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from loguru import logger

from worker.errors import Retry, WorkerError

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to repeat a request after failures that may pass.

    An answer of the server's own that is of no use (a 500, no JSON) may be final, so it is repeated a few times only.
    No answer at all, or one from a gateway in between (502, 503, 504 and above), says nothing about the request and is
    repeated until the deadline.
    """

    #: tries in all when the server answers each
    tries: int
    #: the deadline for callers that name none, in seconds from the first try
    within_s: float
    first_wait_s: float = 0.5
    longest_wait_s: float = 10.0

    def wait_s(self, failures: int, draw: float) -> float:
        """Seconds to wait after the `failures`th failure: doubling, half of it random. `draw`: from 0 to 1."""
        doublings = min(failures - 1, 30)
        longest = min(self.longest_wait_s, self.first_wait_s * 2.0**doublings)
        return longest * (1 + draw) / 2


@dataclass
class RateLimit:
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


async def repeat(
    attempt: Callable[[], Awaitable[Result]], policy: RetryPolicy, deadline: float | None = None
) -> Result:
    """Try until it succeeds, fails for good, or the policy or the deadline (event loop's time) ends it.

    The first try is always made. Another follows an error whose `retry` allows it.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + policy.within_s if deadline is None else deadline
    failures = answered = 0
    while True:
        try:
            return await attempt()
        except WorkerError as error:
            failures += 1
            answered += not _is_passing(getattr(error, "status", 0))
            wait_s = policy.wait_s(failures, random.random())
            wait_s = max(wait_s, getattr(error, "retry_after_s", 0.0))
            if error.retry is Retry.NO or answered >= policy.tries or loop.time() + wait_s >= ends_at:
                raise
            logger.bind(action="http_retry", failures=failures, wait_s=wait_s).debug("{} Trying again.", error.message)
        await asyncio.sleep(wait_s)


def _is_passing(status: int) -> bool:
    """Whether such failures say nothing about the request: no answer, too many requests, a gateway in between."""
    return status in {0, 429} or status > 500  # noqa: PLR2004 - 500 is the Horde's own, and may be final
