"""How long an engine may stand still during a prompt before it counts as stalled. Pure: the caller brings the clock.

A first load of a large model from a slow disk sends nothing for minutes, while the steps of a sampler come at a steady
pace. So the longest pause of each model and phase is remembered; the limit is a multiple of it, and at least the
owner's time-out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from worker.bounded_dict import BoundedDict


class Phase(str, Enum):
    """What a prompt does until its next event."""

    #: encoding texts and loading models, until the first step
    LOADING = "loading"
    STEPPING = "stepping"
    #: after a sampler's last step: decoding, post-processing, another sampler's models
    FINISHING = "finishing"


#: The limit as a multiple of the longest pause seen.
MARGIN = 5.0
#: The limit before any pause was seen, as a multiple of the owner's time-out.
FIRST_MARGIN = 4.0
#: The highest limit, as a multiple of the one before any pause was seen.
MOST_MARGIN = 2.0
#: Pauses remembered at most.
MOST_PAUSES = 512
#: Images smaller than this take as long as one of this size.
LEAST_MEGAPIXELS = 0.25


@dataclass
class StallLimits:
    """The limits by model and phase, learned from pauses. One object for all engines."""

    #: the owner's time-outs in seconds, by phase
    floors_s: Callable[[], dict[Phase, float]]
    #: longest pause seen in seconds, per megapixel where size matters
    _longest: BoundedDict[tuple[str, Phase], float] = field(
        default_factory=lambda: BoundedDict(MOST_PAUSES), init=False
    )

    def limit_s(self, model: str, phase: Phase, megapixels: float) -> float:
        """Seconds that an engine may stand still."""
        floor_s = self.floors_s()[phase]
        first_s = floor_s * FIRST_MARGIN * max(1.0, megapixels)
        longest = self._longest.get((model, phase))
        if longest is None:
            return first_s
        # One very long pause on a machine that was busy for a moment must not make every later stall cost hours.
        return min(max(floor_s, MARGIN * longest * _size(phase, megapixels)), MOST_MARGIN * first_s)

    def learn(self, model: str, phase: Phase, megapixels: float, pause_s: float) -> None:
        """Note the longest pause of a phase in a successful prompt."""
        before = self._longest.get((model, phase), 0.0)
        self._longest[model, phase] = max(before, pause_s / _size(phase, megapixels))


@dataclass
class StallWatch:
    """Follows one prompt; `megapixels` of all its images together.

    Its pauses are learned all at once after it has succeeded: short pauses at the beginning of a phase say nothing
    about long ones to come, such as the load of a second model.
    """

    stall_limits: StallLimits
    model: str
    megapixels: float
    phase: Phase = Phase.LOADING
    #: time of the last event; None before the engine began the prompt
    moved_at: float | None = None
    _longest: dict[Phase, float] = field(default_factory=dict, init=False)

    @property
    def limit_s(self) -> float:
        """Seconds that the prompt may stand still now."""
        return self.stall_limits.limit_s(self.model, self.phase, self.megapixels)

    def moved(self, now: float, *, done: float = 0, total: float = 0) -> None:
        """Note an event: a node began, or has done `done` of `total` steps."""
        if self.moved_at is not None:
            self._longest[self.phase] = max(self._longest.get(self.phase, 0.0), now - self.moved_at)
        self.moved_at = now
        if total:
            self.phase = Phase.STEPPING if done < total else Phase.FINISHING

    def ended_well(self) -> None:
        """The prompt succeeded: learn its pauses."""
        for phase, pause_s in self._longest.items():
            self.stall_limits.learn(self.model, phase, self.megapixels, pause_s)


def _size(phase: Phase, megapixels: float) -> float:
    return 1.0 if phase is Phase.LOADING else max(megapixels, LEAST_MEGAPIXELS)
