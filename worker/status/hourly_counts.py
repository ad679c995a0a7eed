"""What each hour brought, by model and by feature. Bounded in hours and in names."""

from collections.abc import Iterable, Mapping

from worker.status.request_summary import PLAIN
from worker.status.snapshot import HourOfWork, Tally

HOUR_S = 3600.0
#: Hours kept: a week.
MOST_HOURS = 168
#: Models counted apart in one hour; the others are counted together.
MOST_MODELS = 50
OTHER = "other"


class Hours:
    """Sums by hour. Moments are seconds since 1970."""

    def __init__(self) -> None:
        self._hours: dict[int, HourOfWork] = {}

    def add(self, at: float, model: str, features: Iterable[str], one: Tally) -> None:
        """Count a job that ended then."""
        begins_at = at // HOUR_S * HOUR_S
        known = self._hour(begins_at).models
        name = model if model in known or len(known) < MOST_MODELS else OTHER
        self.merge(HourOfWork(begins_at, one, {name: one}, dict.fromkeys(tuple(features) or (PLAIN,), one)))

    def merge(self, hour: HourOfWork) -> None:
        """Add what an hour brought; the earliest hour makes room."""
        here = self._hour(hour.begins_at)
        self._hours[int(hour.begins_at // HOUR_S)] = HourOfWork(
            here.begins_at,
            here.total + hour.total,
            sums(here.models, hour.models),
            sums(here.features, hour.features),
        )
        while len(self._hours) > MOST_HOURS:
            del self._hours[min(self._hours)]

    def last(self, hours: int, now: float) -> tuple[HourOfWork, ...]:
        """The last so many hours with the present one, the earliest first; hours without work are in it, too."""
        latest = int(now // HOUR_S)
        numbers = range(latest - min(hours, MOST_HOURS) + 1, latest + 1)
        return tuple(self._hour(number * HOUR_S) for number in numbers)

    def _hour(self, begins_at: float) -> HourOfWork:
        return self._hours.get(int(begins_at // HOUR_S)) or HourOfWork(begins_at)


def sums(some: Mapping[str, Tally], more: Mapping[str, Tally]) -> Mapping[str, Tally]:
    """Both together, by name."""
    return {**some, **{name: some.get(name, Tally()) + tally for name, tally in more.items()}}
