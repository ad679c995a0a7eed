"""Bar charts as SVG, made here: a page without scripts shows them, and no library is sent to anybody. Pure.

The shapes carry classes, and the style sheet the colours, for light and dark. What the bars say stands as text in
the chart's description and in a table beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.dashboard.words import number, plural
from worker.status.snapshot import HourOfWork

WIDTH, HEIGHT = 520, 150
#: Room below the bars for the hours, and left of them for the scale.
FOOT, LEFT = 22, 60
#: Above the highest line, for its text.
TOP = 14
#: Share of a bar's place that the bar takes.
FILL = 0.72
#: The scale has at most so many steps.
STEPS = 4


@dataclass(frozen=True)
class Bar:
    """One bar. Coordinates in the chart."""

    x: float
    y: float
    width: float
    height: float
    #: what stands in its tooltip
    says: str


@dataclass(frozen=True)
class Chart:
    """What the template draws."""

    id: str
    title: str
    description: str
    bars: tuple[Bar, ...]
    #: y and text of the scale's lines
    scale: tuple[tuple[float, str], ...]
    #: x and text of the hours
    hours: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT


def kudos_chart(hours: Sequence[HourOfWork]) -> Chart:
    return _chart("kudos", [hour.total.kudos for hour in hours], hours, one="kudos", many="kudos")


def jobs_chart(hours: Sequence[HourOfWork]) -> Chart:
    return _chart("jobs", [float(hour.total.jobs) for hour in hours], hours, one="job", many="jobs")


def _chart(id_: str, values: list[float], hours: Sequence[HourOfWork], *, one: str, many: str) -> Chart:
    top = _round_up(max(values, default=0.0))
    depth = HEIGHT - FOOT
    place = (WIDTH - LEFT) / max(1, len(values))
    bars = tuple(
        Bar(
            x=round(LEFT + place * (index + (1 - FILL) / 2), 1),
            y=round(depth - (depth - TOP) * value / top, 1),
            width=round(place * FILL, 1),
            height=round((depth - TOP) * value / top, 1),
            says=f"{_hour(hour)}: {plural(value, one, many)}",
        )
        for index, (hour, value) in enumerate(zip(hours, values, strict=True))
        if value > 0
    )
    steps = [top * step / STEPS for step in range(STEPS + 1)] if top >= STEPS else [0.0, top]
    every = max(1, round(len(values) / 8))
    total = sum(values)
    best = max(range(len(values)), key=values.__getitem__, default=0)
    description = f"{plural(total, one, many)} in {plural(len(values), 'hour')}" + (
        f"; the best hour was {_hour(hours[best])} with {number(values[best])}." if total else "."
    )
    return Chart(
        id=id_,
        title=f"{many.capitalize()} by hour",
        description=description,
        bars=bars,
        scale=tuple((round(depth - (depth - TOP) * step / top, 1), number(step)) for step in steps),
        hours=tuple(
            (round(LEFT + place * (index + 0.5), 1), _hour(hour))
            for index, hour in enumerate(hours)
            # Half of their distance from the edge, so that none is cut off.
            if (len(values) - 1 - index) % every == every // 2
        ),
    )


def _hour(hour: HourOfWork) -> str:
    return f"{datetime.fromtimestamp(hour.begins_at):%H:%M}"  # noqa: DTZ006 - the owner's clock


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 8, 10, 20 …: a scale that people read at once."""
    if value <= 1:
        return 1.0
    magnitude = 10.0 ** math.floor(math.log10(value))
    return next(step * magnitude for step in (1, 2, 4, 8, 10) if step * magnitude >= value)
