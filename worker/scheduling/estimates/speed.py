"""How long a job will take, learned from those before it. Pure: seconds and requests in, seconds out.

Work is counted in megapixelsteps. The seconds for one unit depend on the model, on what is asked beside the plain
picture and on its size, so each such kind learns by itself; what was never seen is estimated from its nearest kin.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from worker.workflows.features import features_of
from worker.workflows.request import RenderRequest, ServedModel
from worker.workflows.types import Family

#: Weight of the newest measurement: a machine's speed changes with what else runs on it.
NEWEST = 0.3
#: Kinds remembered at most; the least recently learned goes first.
KINDS = 512
#: A job of fewer megapixelsteps is mostly overhead: larger ones are not judged by it, unless it was itself too slow.
LEAST_WORK = 1.0
#: Samplers that evaluate the model twice a step.
TWICE = frozenset({"heun", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde"})
#: How much longer a megapixelstep takes than with SD 1.5, roughly: for a family of which nothing was seen yet.
HEAVINESS = {
    Family.STABLE_DIFFUSION_1: 1.0,
    Family.STABLE_DIFFUSION_2_512: 1.0,
    Family.STABLE_DIFFUSION_2_768: 1.0,
    Family.STABLE_DIFFUSION_XL: 2.0,
    Family.STABLE_CASCADE: 3.0,
    Family.FLUX_1: 10.0,
    Family.FLUX_SCHNELL: 10.0,
    Family.FLUX_DEV: 10.0,
    Family.QWEN_IMAGE: 20.0,
    Family.Z_IMAGE_TURBO: 6.0,
}


def work_of(request: RenderRequest) -> float:
    """Megapixelsteps of the whole batch, both passes of a hires fix counted."""
    evaluations = 2 if request.sampler in TWICE else 1
    first = request.first_width * request.first_height * request.steps
    second = request.width * request.height * request.hires_steps if request.hires else 0
    return (first + second) * evaluations * request.batch / 1e6


def _kinds(request: RenderRequest) -> Iterator[Hashable]:
    """The request's kinds from the most to the least like it."""
    features, size = features_of(request), request.width * request.height
    yield request.model.name, features, size, request.batch
    yield request.model.name, features, size
    yield request.model.name, size
    yield request.model.name
    yield request.model.family


@dataclass
class _Pace:
    """Seconds per unit of a model or family, as far as larger jobs may be judged by it."""

    seconds: float
    #: the first job also loads the model: alone it only says that no job is slower
    certain: bool

    def add(self, seconds: float, *, certain: bool) -> None:
        if not self.certain and not certain:
            self.seconds = min(self.seconds, seconds)
        else:
            self.seconds += NEWEST * (seconds - self.seconds)
        self.certain = True


@dataclass
class Speed:
    """Learned seconds per unit of work."""

    _seconds_per_unit: dict[Hashable, float] = field(default_factory=dict)
    _paces: dict[str | Family, _Pace] = field(default_factory=dict)

    def learn(self, request: RenderRequest, seconds: float, *, finished: bool = True) -> None:
        """A job like this kept an engine busy for so long, or would have if it had been let finish."""
        measured = seconds / work_of(request)
        for kind in _kinds(request):
            before = self._seconds_per_unit.pop(kind, measured)
            # Put back at the end: the order of the dict is the order of learning.
            self._seconds_per_unit[kind] = before + NEWEST * (measured - before)
        while len(self._seconds_per_unit) > KINDS:
            del self._seconds_per_unit[next(iter(self._seconds_per_unit))]
        if not finished or work_of(request) >= LEAST_WORK:
            self._set_pace(request, seconds / max(work_of(request), LEAST_WORK), certain=not finished)

    def _set_pace(self, request: RenderRequest, unit: float, *, certain: bool) -> None:
        for name in (request.model.name, request.model.family):
            if pace := self._paces.pop(name, None):
                pace.add(unit, certain=certain)
            self._paces[name] = pace or _Pace(unit, certain=certain)
        while len(self._paces) > KINDS:
            del self._paces[next(iter(self._paces))]

    def estimate(self, request: RenderRequest) -> float | None:
        """Seconds an engine will need; None before anything of the family was seen."""
        for kind in _kinds(request):
            if kind in self._seconds_per_unit:
                return self._seconds_per_unit[kind] * work_of(request)
        return None

    def unit_s(self, model: ServedModel) -> float | None:
        """Seconds per unit with this model, if need be by its family or by another; None while nothing is certain."""
        known = {name: pace.seconds for name, pace in self._paces.items() if pace.certain}
        for name in (model.name, model.family):
            if name in known:
                return known[name]
        kin = [
            seconds * HEAVINESS[model.family] / HEAVINESS[name]
            for name, seconds in known.items()
            if isinstance(name, Family)
        ]
        return max(kin, default=None)


@dataclass
class Average:
    """A running average that follows; None before the first value."""

    value: float | None = None

    def add(self, value: float) -> None:
        self.value = value if self.value is None else self.value + NEWEST * (value - self.value)
