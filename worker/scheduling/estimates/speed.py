"""How fast jobs are, learned from earlier ones. Pure: seconds and requests in, seconds out.

Work is counted in megapixelsteps. `JobTimes` learns how long a whole job keeps an engine busy, by model, features and
size; it predicts when an engine runs dry. `SamplerSpeed` learns how fast a model samples, from the steps of samplers
alone, so that loads and post-processing do not count as slowness; it decides what is asked for. `UpscaleSpeed` learns
how fast pictures are enlarged.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from worker.bounded_dict import BoundedDict
from worker.workflows.families import TRAITS
from worker.workflows.features import features_of
from worker.workflows.post_processing import works_px
from worker.workflows.request import RenderRequest, ServedModel
from worker.workflows.types import Family

#: Weight of the newest measurement in an average: a machine's speed changes with its other load.
NEWEST = 0.3
#: Kinds of jobs remembered.
MOST_KINDS = 512
#: Megapixelsteps below which a job is mostly overhead and says nothing of larger ones.
LEAST_WORK = 1.0
#: Megapixels below which enlarging is mostly overhead.
LEAST_UPSCALED = 0.02
#: Seconds after which a model that is too slow is tried again; doubles each time, up to the longest.
RETRY_S, LONGEST_RETRY_S = 60.0, 600.0
#: Samplers that evaluate the model twice a step.
TWICE = frozenset({"heun", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde"})


def work_of(request: RenderRequest) -> float:
    """Megapixelsteps of the whole batch, including the second pass of a hires fix."""
    evaluations = 2 if request.sampler in TWICE else 1
    first = request.first_width * request.first_height * request.steps
    second = request.width * request.height * request.hires_steps if request.hires else 0
    return (first + second) * evaluations * request.batch / 1e6


def work_of_steps(request: RenderRequest, steps: float) -> float:
    """Megapixelsteps of `steps` of the request's steps."""
    return work_of(request) * steps / (request.steps + (request.hires_steps if request.hires else 0))


def _kinds(request: RenderRequest) -> Iterator[Hashable]:
    """Kinds of the request, from the most to the least specific."""
    features, size = features_of(request), request.width * request.height
    yield request.model.name, features, size, request.batch
    yield request.model.name, features, size
    yield request.model.name, size
    yield request.model.name
    yield request.model.family


class JobTimes:
    """Seconds that an engine needs for a whole job."""

    def __init__(self) -> None:
        self._seconds_per_unit: BoundedDict[Hashable, float] = BoundedDict(MOST_KINDS)

    def learn(self, request: RenderRequest, seconds: float) -> None:
        """A finished job kept an engine busy for `seconds`."""
        measured = seconds / work_of(request)
        for kind in _kinds(request):
            before = self._seconds_per_unit.get(kind, measured)
            self._seconds_per_unit[kind] = before + NEWEST * (measured - before)

    def estimate(self, request: RenderRequest) -> float | None:
        """Seconds that an engine will need; None before any job of the family."""
        for kind in _kinds(request):
            if kind in self._seconds_per_unit:
                return self._seconds_per_unit[kind] * work_of(request)
        return None


class ModelSpeed(NamedTuple):
    """Seconds per megapixelstep, and whether that may withdraw a model or only make its pictures smaller."""

    unit_s: float
    may_withdraw: bool


@dataclass
class _Samples:
    """The last two measurements of a model or family, in seconds per megapixelstep."""

    units: deque[float] = field(default_factory=lambda: deque(maxlen=2))
    at: float = 0.0
    retry_s: float = RETRY_S

    def add(self, unit: float, now: float) -> None:
        if self.units and unit < min(self.units) / 2:
            self.retry_s = RETRY_S
        elif self.units and now - self.at >= self.retry_s:
            # It had its pause, and is no faster.
            self.retry_s = min(2 * self.retry_s, LONGEST_RETRY_S)
        self.units.append(unit)
        self.at = now


class SamplerSpeed:
    """How fast models sample. Times are seconds of a monotonic clock.

    The faster of a model's last two jobs counts: one that was slow by accident changes nothing, and one fast job ends
    all caution. What is known of other models makes pictures smaller, but never withdraws a model.
    """

    def __init__(self) -> None:
        self._models: BoundedDict[str, _Samples] = BoundedDict(MOST_KINDS)
        self._families: dict[Family, _Samples] = {}
        #: of families of which two jobs are known; asked for every model at every pop
        self._known: dict[Family, float] = {}

    def learn(self, request: RenderRequest, now: float, *, steps: float, seconds: float, finished: bool) -> None:
        """The samplers of a job did `steps` in `seconds`; `finished`: the job was rendered."""
        work, done = work_of(request), work_of_steps(request, steps)
        if seconds <= 0 or done <= 0:
            return
        unit = seconds * (work / done) / max(work, LEAST_WORK)
        name, family = request.model.name, request.model.family
        own, kin = self._models.get(name) or _Samples(), self._families.get(family) or _Samples()
        for samples in (own, kin):
            # A small job says nothing of large ones, unless it was itself too slow.
            if work >= LEAST_WORK or (not finished and unit > max(samples.units, default=0.0)):
                samples.add(unit, now)
                self._models[name], self._families[family] = own, kin
        if len(kin.units) > 1:
            self._known[family] = min(kin.units)

    def of(self, model: ServedModel, now: float) -> ModelSpeed | None:
        """The model's speed, else by its family, else by other families; None while too little is known."""
        own = self._models.get(model.name)
        if own and own.units:
            return ModelSpeed(min(own.units), len(own.units) > 1 and now - own.at < own.retry_s)
        if model.family in self._known:
            return ModelSpeed(self._known[model.family], may_withdraw=False)
        kin = [unit * TRAITS[model.family].cost / TRAITS[family].cost for family, unit in self._known.items()]
        return ModelSpeed(max(kin), may_withdraw=False) if kin else None


class UpscaleSpeed:
    """How fast pictures are enlarged: seconds per megapixel that an upscaler of cost 1 reads.

    The faster of the last two jobs counts, as with `SamplerSpeed`.
    """

    def __init__(self) -> None:
        self._units: deque[float] = deque(maxlen=2)

    def learn(self, request: RenderRequest, measured: Sequence[tuple[float, float]]) -> None:
        """A job's upscalers did these shares of their work in so many seconds each."""
        works = works_px(request.post_processing, request.width, request.height, request.batch)
        seconds = sum(took for _, took in measured)
        done = sum(work * share for work, (share, _) in zip(works, measured, strict=False)) / 1e6
        if seconds > 0 and done >= LEAST_UPSCALED:
            self._units.append(seconds / done)

    @property
    def unit_s(self) -> float | None:
        """None before anything was enlarged."""
        return min(self._units, default=None)


@dataclass
class RunningAverage:
    """An average in which the newest value weighs most; None before the first."""

    value: float | None = None

    def add(self, value: float) -> None:
        self.value = value if self.value is None else self.value + NEWEST * (value - self.value)
