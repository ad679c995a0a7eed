"""Clocks, and spans of time for people.

Whoever decides by the time takes a `Clock`, so that a test moves it by hand. `monotonic` is also the clock of the
asyncio event loop: their readings may be compared.
"""

import sys
import time
from collections.abc import Callable

#: Returns seconds since some fixed moment.
Clock = Callable[[], float]

monotonic: Clock = time.monotonic


def including_sleep() -> float:
    """Seconds of a clock that nobody sets and that goes on while the machine is suspended."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    return time.monotonic()  # Windows counts suspended time in its monotonic clock


def duration(seconds: float) -> str:
    """A span of time for people: seconds below two minutes, minutes below two hours, then hours."""
    whole = round(seconds)
    if whole < 120:  # noqa: PLR2004 - two minutes
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"  # noqa: PLR2004 - two hours
