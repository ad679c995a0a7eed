"""Hours at which the worker serves, as an owner writes them: `22:00-07:00`, `mon-fri 18:00-23:30`, `sun 00:00-24:00`.

Pure. A time that ends before it begins goes on into the next day. Times are of the machine's clock.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = "|".join(_DAYS)
_WRITTEN: Final = re.compile(
    rf"(?:(?P<first>{_DAY})[a-z]*(?:\s*-\s*(?P<last>{_DAY})[a-z]*)?\s+)?"
    r"(?P<from>\d{1,2}:\d{2})\s*-\s*(?P<to>\d{1,2}:\d{2})",
    re.IGNORECASE,
)
_DAY_MINUTES: Final = 24 * 60


@dataclass(frozen=True)
class Hours:
    """A time of some days of the week, in minutes from their midnight; Monday is 0."""

    days: frozenset[int]
    begin: int
    end: int


def read_hours(text: str) -> Hours:
    """Raises ValueError with what is wrong."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise ValueError("it is no time such as 22:00-07:00 or mon-fri 18:00-23:30")
    begin, end = (_minutes(found[name]) for name in ("from", "to"))
    if begin == _DAY_MINUTES:
        raise ValueError("a day begins at 00:00")
    days = range(7)
    if found["first"]:
        first = _DAYS.index(found["first"].lower())
        last = _DAYS.index((found["last"] or found["first"]).lower())
        days = range(first, last + 1 if last >= first else last + 8)
    return Hours(frozenset(day % 7 for day in days), begin, end if end > begin else end + _DAY_MINUTES)


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _DAY_MINUTES:  # noqa: PLR2004 - minutes of an hour
        raise ValueError(f"{text} is no time of a day")
    return hours * 60 + minutes


def closed_for_s(hours: Sequence[Hours], now: datetime) -> float:
    """Seconds until the next of these hours begins; 0 within them, and where there are none."""
    if not hours:
        return 0.0
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    opens: list[float] = []
    for day in (midnight + timedelta(days=number) for number in range(-1, 9)):
        for each in hours:
            begin, end = (day + timedelta(minutes=minutes) for minutes in (each.begin, each.end))
            if day.weekday() in each.days:
                if begin <= now < end:
                    return 0.0
                opens.append((begin - now).total_seconds())
    return min(seconds for seconds in opens if seconds > 0)
