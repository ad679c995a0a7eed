"""How long a server that sends HTTP's Retry-After wants to be left alone, within bounds."""

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Final

#: Seconds to wait after a 429 without a readable Retry-After.
DEFAULT_RETRY_AFTER_S: Final = 5.0
#: Bounds of every wait the server asks for, in seconds. Below a second a refused worker would ask faster than before;
#: above an hour a wrong date or a typing error would stop it for days.
MIN_RETRY_AFTER_S, MAX_RETRY_AFTER_S = 1.0, 3600.0


def bounded_retry_after_s(seconds: float) -> float:
    """A wait that the server asks for, in seconds, within its bounds; the default when it is no sensible number."""
    if not seconds >= 0:  # negative, or not a number
        seconds = DEFAULT_RETRY_AFTER_S
    return min(max(seconds, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)


def retry_after_s(header: str, now: datetime | None = None) -> float:
    """Seconds that a Retry-After header asks for (a number of seconds or a date), within the bounds."""
    try:
        wait_s = float(header)
    except ValueError:
        try:
            wait_s = (parsedate_to_datetime(header) - (now or datetime.now(timezone.utc))).total_seconds()
        except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
            wait_s = DEFAULT_RETRY_AFTER_S
    return bounded_retry_after_s(wait_s)
