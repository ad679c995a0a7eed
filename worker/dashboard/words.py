"""Numbers, spans and moments in the words of the page; filters of its templates. Pure."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup, escape

from worker.as_typed import as_typed
from worker.units import GIB, MIB

#: Where there is no number.
NONE: Final = "\u2013"
#: Between thousands: narrow, and never broken.
THIN: Final = "\u202f"
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
#: Sizes below are shown with a digit after the point.
SMALL: Final = 10


def number(value: float | None) -> str:
    """A whole number with thin spaces; a dash for none. Small ones keep a digit."""
    if value is None:
        return NONE
    if value and abs(value) < SMALL and value != int(value):
        return f"{value:.1f}"
    return f"{value:,.0f}".replace(",", THIN)


def span(seconds: float | None) -> str:
    """A time span in the two largest units that matter; a dash for none."""
    if seconds is None:
        return NONE
    if seconds < SMALL:
        return f"{seconds:.1f} s"
    whole = int(seconds + 0.5)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S:02d} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02d} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"


def rough_span(seconds: float) -> str:
    """A span in one unit, for what changes all the time: no more than the eye wants."""
    if seconds < MINUTE_S:
        return "less than a minute"
    if seconds < 2 * HOUR_S:
        return f"{int(seconds // MINUTE_S)} min"
    if seconds < 2 * DAY_S:
        return f"{int(seconds // HOUR_S)} h"
    return f"{int(seconds // DAY_S)} days"


def size(count: float) -> str:
    """Bytes in MiB or GiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def at(moment: float, now: float | None = None) -> str:
    """A moment on this machine's clock, with the day where it is another."""
    then, today = datetime.fromtimestamp(moment), datetime.fromtimestamp(time.time() if now is None else now)  # noqa: DTZ006
    return f"{then:%H:%M}" if then.date() == today.date() else f"{then.day} {then:%b %H:%M}"


def exactly(moment: float) -> str:
    """A moment to the second, for tables."""
    return f"{datetime.fromtimestamp(moment):%H:%M:%S}"  # noqa: DTZ006 - the owner's clock


def machine_time(moment: float) -> str:
    """A moment for `<time datetime>`."""
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")


def plural(count: float, one: str, many: str = "") -> str:
    """A count and its noun: 1 job, 2 jobs."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def marked(text: str) -> Markup:
    """A sentence with what stands between backticks, such as a command, set as code; everything else is text."""
    parts = as_typed(text).split("`")
    if len(parts) % 2 == 0:  # an odd backtick is no mark
        return escape(as_typed(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    each.__name__: each for each in (number, span, rough_span, size, at, exactly, machine_time, plural, marked)
}
