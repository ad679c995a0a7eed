"""What a trial of an engine says beside the one in use: templates, pictures, seconds. Pure."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from worker.units import counted

#: The largest difference of a channel, of 255, that no eye sees: rounding that another build of torch does otherwise.
ROUNDING = 1
#: Times as long as the engine in use, over all jobs, from which on an engine counts as slow.
SLOW = 1.5


@dataclass(frozen=True)
class Rendered:
    """One job on one engine. `picture`: height, width and channels as bytes; None where it failed, and `error` why."""

    size: tuple[int, int, int] = (0, 0, 0)
    pixels: bytes = b""
    #: without loading
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Compared:
    """One job on both engines. Differences are of a channel, of 255; None where there is nothing to compare."""

    job: str
    model: str
    largest_difference: int | None
    mean_difference: float | None
    seconds_before: float
    seconds_now: float
    error_before: str = ""
    error_now: str = ""

    @property
    def is_equal(self) -> bool:
        return not self.error_now and self.largest_difference == 0

    @property
    def is_rounded(self) -> bool:
        return self.largest_difference is not None and 0 < self.largest_difference <= ROUNDING

    @property
    def differs(self) -> bool:
        return self.largest_difference is not None and self.largest_difference > ROUNDING

    @property
    def is_lost(self) -> bool:
        """Works on the engine in use alone."""
        return bool(self.error_now and not self.error_before)


@dataclass(frozen=True)
class TrialReport:
    """Everything that a trial found. `error`: why the engine could not be tried, if it could not."""

    engine: str
    version: str
    against: str
    against_version: str
    at: float
    error: str = ""
    #: template → what it lacks
    templates_lost: Mapping[str, Sequence[str]] = field(default_factory=dict)
    templates_gained: Sequence[str] = ()
    templates_kept: int = 0
    families_lost: Sequence[str] = ()
    families_gained: Sequence[str] = ()
    pictures: Sequence[Compared] = ()
    #: jobs of models whose tiny files don't fit the engine's version: nothing is known of them
    untried: Sequence[str] = ()

    @property
    def times_as_long(self) -> float | None:
        """The median over all jobs; None where no job was done on both."""
        ratios = [
            each.seconds_now / each.seconds_before
            for each in self.pictures
            if each.largest_difference is not None and each.seconds_before > 0
        ]
        return statistics.median(ratios) if ratios else None

    @property
    def complaints(self) -> list[str]:
        """What speaks against the engine, a sentence each."""
        if self.error:
            return [self.error]
        said = []
        if self.templates_lost:
            said.append(
                f"{counted(len(self.templates_lost), 'template')} lost: {', '.join(sorted(self.templates_lost))}."
            )
        if lost := [each for each in self.pictures if each.is_lost]:
            said.append(f"{counted(len(lost), 'job')} failed: {', '.join(each.job for each in lost)}.")
        if other := [each for each in self.pictures if each.differs]:
            said.append(
                f"{counted(len(other), 'picture')} differ{'s' if len(other) == 1 else ''}: "
                + ", ".join(f"{each.job} by up to {each.largest_difference}" for each in other)
                + " of 255."
            )
        if not any(each.largest_difference is not None for each in self.pictures) and not said:
            said.append("No job was done by both engines, so nothing is known of its pictures.")
        if (times := self.times_as_long) is not None and times > SLOW:
            said.append(f"Slow: jobs take {times:.2f} times as long.")
        return said

    @property
    def takes(self) -> bool:
        """Whether the engine may take the place of the other."""
        return not self.complaints

    @property
    def summary(self) -> str:
        """One sentence or a few."""
        if complaints := self.complaints:
            return " ".join(complaints)
        equal, rounded = sum(each.is_equal for each in self.pictures), sum(each.is_rounded for each in self.pictures)
        said = f"{equal} of {len(self.pictures)} pictures equal"
        if rounded:
            said += f", {rounded} by 1 of 255 off"
        if self.times_as_long:
            said += f", {self.times_as_long:.2f} times as long"
        if self.untried:
            said += f", {counted(len(self.untried), 'job')} not tried, for the tiny models don't fit this version"
        return said + (f", new: {', '.join(self.families_gained)}." if self.families_gained else ".")

    def as_json(self) -> dict[str, Any]:
        """For programs; times as asked for by `--json`."""
        ratio = self.times_as_long
        return {
            **asdict(self),
            "takes": self.takes,
            "summary": self.summary,
            "complaints": self.complaints,
            "times_as_long": None if ratio is None else round(ratio, 3),
        }


def compare(job: str, model: str, before: Rendered, now: Rendered) -> Compared:
    """Two renderings of one job."""
    largest, mean = None, None
    if not before.error and not now.error:
        largest, mean = _difference(before, now)
    return Compared(job, model, largest, mean, round(before.seconds, 3), round(now.seconds, 3), before.error, now.error)


def _difference(before: Rendered, now: Rendered) -> tuple[int, float]:
    if before.size != now.size or len(before.pixels) != len(now.pixels):
        return 255, 255.0
    if before.pixels == now.pixels:
        return 0, 0.0
    differences = [abs(one - other) for one, other in zip(before.pixels, now.pixels, strict=True)]
    return max(differences), round(sum(differences) / len(differences), 3)


def audit_difference(
    before: Mapping[str, Collection[str]], now: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Sequence[str]], list[str], int]:
    """Templates that only the engine in use has, with reasons; those that only the new one has; how many both have.

    Each argument: template → what it lacks on that engine.
    """
    lost = {name: wrong for name, wrong in now.items() if wrong and not before.get(name)}
    gained = sorted(name for name, wrong in now.items() if not wrong and before.get(name))
    return lost, gained, sum(not wrong and not before.get(name) for name, wrong in now.items())
