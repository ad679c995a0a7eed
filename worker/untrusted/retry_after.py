"""Whether and when to ask a server again: what its status says, and HTTP's Retry-After within bounds."""

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Final

#: Seconds to wait after a 429 without a readable Retry-After.
DEFAULT_RETRY_AFTER_S: Final = 5.0
#: Bounds of every wait the server asks for, in seconds. Below a second a refused worker would ask faster than before;
#: above an hour a wrong date or a typing error would stop it for days.
MIN_RETRY_AFTER_S, MAX_RETRY_AFTER_S = 1.0, 3600.0
#: Client errors of HTTP that pass by themselves: time-out, too early, too many requests.
_PASSING: Final = frozenset({408, 425, 429})


def is_final_no(status: int) -> bool:
    """Whether an HTTP status is a refusal that another try does not change."""
    return 400 <= status < 500 and status not in _PASSING  # noqa: PLR2004 - HTTP's client errors


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
