"""Whether an engine that was taken into use lately is sound, by how it serves beside the one before. Pure."""

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.bounded_dict import BoundedDict

#: Times that one slot lost its engine, from which on that is no accident.
MOST_LOSSES = 3
#: Jobs without a finite picture, and their share of all, from which on no single model or LoRA is to blame.
MOST_NOT_FINITE, NOT_FINITE_SHARE = 3, 0.25
#: Times as long as before, over all kinds of jobs, from which on an engine is much slower.
MUCH_SLOWER = 1.5
#: Measured jobs of a kind that say something, those kept of each, and jobs needed over all kinds.
LEAST_OF_A_KIND, KEPT_OF_A_KIND, LEAST_COMPARED = 3, 15, 10
MOST_KINDS = 256
#: What an engine must have done, and for how long, before it counts as sound.
PROVEN_JOBS, PROVEN_S = 50, 3600.0


@dataclass
class ServiceRecord:
    """What an engine did since it was taken into use, or since the worker was started."""

    done: int = 0
    not_finite: int = 0
    #: of the slot that lost its engine most often
    losses: int = 0
    #: why no slot can start it, if none can
    never_starts: str = ""
    _speeds: BoundedDict[str, deque[float]] = field(default_factory=lambda: BoundedDict(MOST_KINDS))

    def note_speed(self, kind: str, seconds: float) -> None:
        """A job of this kind took so many seconds for its work. The first of a kind, which warms up, is left out."""
        known = self._speeds.get(kind)
        if known is None:
            self._speeds[kind] = deque(maxlen=KEPT_OF_A_KIND)
        else:
            known.append(seconds)

    def speeds(self) -> dict[str, float]:
        """Kind → seconds for its work, of the kinds that were measured often enough."""
        return {
            kind: statistics.median(seconds)
            for kind, seconds in self._speeds.items()
            if len(seconds) >= LEAST_OF_A_KIND
        }

    def times_as_long(self, before: Mapping[str, float]) -> float | None:
        """The median over the kinds that both engines did; None where too few were."""
        now = self.speeds()
        ratios = [now[kind] / before[kind] for kind in now if before.get(kind, 0.0) > 0]
        jobs = sum(len(self._speeds[kind]) for kind in now if before.get(kind, 0.0) > 0)
        return statistics.median(ratios) if jobs >= LEAST_COMPARED else None

    def complaint(self, before: Mapping[str, float]) -> str:
        """Why the engine is to be given up; nothing where it serves well. `before`: the speeds of the one before."""
        if self.never_starts:
            return f"it does not start: {self.never_starts.rstrip('.')}"
        if self.losses >= MOST_LOSSES:
            return f"it was lost {self.losses} times"
        if self.not_finite >= max(MOST_NOT_FINITE, NOT_FINITE_SHARE * (self.done + self.not_finite)):
            return f"{self.not_finite} jobs gave NaN or infinity in place of a picture, and {self.done} were done"
        ratio = self.times_as_long(before)
        if ratio is not None and ratio > MUCH_SLOWER:
            return f"jobs take {ratio:.1f} times as long as before"
        return ""

    def is_proven(self, seconds: float) -> bool:
        """Whether it has served long enough, after so many seconds in use in this run."""
        return self.done >= PROVEN_JOBS and seconds >= PROVEN_S
