"""What each hour brought, by model and by feature. Bounded in hours and in names."""

from collections.abc import Iterable
from types import MappingProxyType

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

    def add(self, at: float, model: str, features: Iterable[str], one: Tally) -> HourOfWork:
        """Count a job that ended then; returns the hour's new sums."""
        number = int(at // HOUR_S)
        hour = self._hours.get(number) or HourOfWork(number * HOUR_S)
        models, named = dict(hour.models), dict(hour.features)
        name = model if model in models or len(models) < MOST_MODELS else OTHER
        models[name] = models.get(name, Tally()) + one
        for feature in tuple(features) or (PLAIN,):
            named[feature] = named.get(feature, Tally()) + one
        made = HourOfWork(hour.begins_at, hour.total + one, MappingProxyType(models), MappingProxyType(named))
        self.put(made)
        return made

    def put(self, hour: HourOfWork) -> None:
        """Take over an hour's sums; the earliest hour makes room."""
        self._hours[int(hour.begins_at // HOUR_S)] = hour
        while len(self._hours) > MOST_HOURS:
            del self._hours[min(self._hours)]

    def merge(self, hour: HourOfWork) -> None:
        """Add an hour of an earlier run."""
        here = self._hours.get(int(hour.begins_at // HOUR_S))
        if here is None:
            self.put(hour)
            return
        models, features = dict(here.models), dict(here.features)
        for mine, theirs in ((models, hour.models), (features, hour.features)):
            for name, tally in theirs.items():
                mine[name] = mine.get(name, Tally()) + tally
        self.put(
            HourOfWork(here.begins_at, here.total + hour.total, MappingProxyType(models), MappingProxyType(features))
        )

    def last(self, hours: int, now: float) -> tuple[HourOfWork, ...]:
        """The last so many hours with the present one, the earliest first; hours without work are in it, too."""
        latest = int(now // HOUR_S)
        numbers = range(latest - min(hours, MOST_HOURS) + 1, latest + 1)
        return tuple(self._hours.get(number) or HourOfWork(number * HOUR_S) for number in numbers)
