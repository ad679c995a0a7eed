"""How many requests an hour arrive, told from how many wait at one moment and the next.

The Horde says how many requests wait, never how many come. What waits more than at the last look has come in between.
What came and was taken in between is not seen, so all of this is a lower bound.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

#: The time that rates are told of, in seconds, and the parts it is forgotten in.
WINDOW_S = 3600.0
PART_S = 60.0
#: A shorter watch is taken for one of this length: the first arrivals say little of an hour.
LEAST_WATCHED_S = 300.0
#: Two looks further apart say nothing of the time between them.
LONGEST_GAP_S = 180.0
#: Kinds counted; the Horde has some 16 reasons and some 150 models.
MOST_KINDS = 500


@dataclass(frozen=True)
class Rate:
    """Requests of one kind."""

    #: wait now
    waiting: float
    #: what could be had within an hour at most: what waits, and what arrives at the rate seen
    per_hour: float


@dataclass
class _Part:
    begins_at: float
    came: Counter[str] = field(default_factory=Counter)
    watched_s: float = 0.0


class Arrivals:
    """Arrivals by kind over the last hour in which somebody looked."""

    def __init__(self, *, least_watched_s: float = LEAST_WATCHED_S) -> None:
        self._least_watched_s = least_watched_s
        self._parts: deque[_Part] = deque()
        self._last: tuple[float, dict[str, float]] | None = None

    @property
    def watched_s(self) -> float:
        """Seconds of the window in which somebody looked."""
        return sum(part.watched_s for part in self._parts)

    def note(self, now: float, waiting: Mapping[str, float]) -> None:
        """So many requests of each kind wait at this moment; a kind that is not named has none."""
        if len(waiting) > MOST_KINDS:
            waiting = dict(sorted(waiting.items(), key=lambda item: -item[1])[:MOST_KINDS])
        if self._last is not None and 0 < now - self._last[0] <= LONGEST_GAP_S:
            before_at, before = self._last
            part = self._part(now)
            part.watched_s += now - before_at
            for kind, count in waiting.items():
                if (more := count - before.get(kind, 0.0)) > 0:
                    part.came[kind] += more  # type: ignore[assignment]  # the server's figures may be fractions
        self._last = now, dict(waiting)
        self._forget(now)

    def forget(self, kind: str) -> None:
        """What came of this kind so far says nothing of what comes from now on; what waits is not taken for new."""
        for part in self._parts:
            part.came.pop(kind, None)

    def rates(self, now: float) -> dict[str, Rate]:
        """Every kind that waits now, or that came within the window."""
        self._forget(now)
        hours = max(self.watched_s, self._least_watched_s) / WINDOW_S
        came: Counter[str] = Counter()
        for part in self._parts:
            came.update(part.came)
        waiting = self._last[1] if self._last and now - self._last[0] <= LONGEST_GAP_S else {}
        return {
            kind: Rate(waiting.get(kind, 0.0), waiting.get(kind, 0.0) + came[kind] / hours)
            for kind in {*waiting, *came}
            if waiting.get(kind) or came[kind]
        }

    def _part(self, now: float) -> _Part:
        if not self._parts or now - self._parts[-1].begins_at >= PART_S:
            self._parts.append(_Part(now))
        return self._parts[-1]

    def _forget(self, now: float) -> None:
        while self._parts and now - self._parts[0].begins_at > WINDOW_S:
            self._parts.popleft()
