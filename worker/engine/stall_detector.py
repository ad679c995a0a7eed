"""How long an engine may stand still in the middle of a prompt before it counts as stuck. Pure: clocks are numbers.

What is long depends on what it does: a first load of a large model from a slow disk says nothing for minutes, while
the steps of a sampler come at a pace that is soon known. So the longest pause of each model and phase is remembered,
and the limit is a multiple of it, with the owner's time-outs as the least.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from worker.bounded_dict import BoundedDict


class Phase(str, Enum):
    """What a prompt's next sign of life is waited for in."""

    #: reading prompts and models, until the first step
    LOADING = "loading"
    STEPPING = "stepping"
    #: after a sampler's last step: decoding, post-processing, another sampler's models
    FINISHING = "finishing"


#: The limit is so many times the longest pause seen.
MARGIN = 5.0
#: The least limit is so many times the owner's time-out as long as nothing was seen.
FIRST_MARGIN = 4.0
#: And never more than so many times the limit of what was never seen.
MOST_MARGIN = 2.0
#: Pauses remembered at most.
KINDS = 512
#: Pictures smaller than this are no quicker by their size.
LEAST_MEGAPIXELS = 0.25


@dataclass
class Patience:
    """Learns the pauses of every model. One for all engines."""

    #: seconds by phase that the owner allows at least
    floors_s: Callable[[], dict[Phase, float]]
    #: longest pause seen in seconds, per megapixel where size matters
    _longest: BoundedDict[tuple[str, Phase], float] = field(default_factory=lambda: BoundedDict(KINDS), init=False)

    def limit_s(self, model: str, phase: Phase, megapixels: float) -> float:
        """Seconds that an engine may stand still."""
        floor_s = self.floors_s()[phase]
        first_s = floor_s * FIRST_MARGIN * max(1.0, megapixels)
        longest = self._longest.get((model, phase))
        if longest is None:
            return first_s
        # One very long pause, on a machine that was busy for a moment, must not make every later stall cost hours.
        return min(max(floor_s, MARGIN * longest * _size(phase, megapixels)), MOST_MARGIN * first_s)

    def learn(self, model: str, phase: Phase, megapixels: float, pause_s: float) -> None:
        """The longest pause of a phase in a prompt that ended well."""
        before = self._longest.get((model, phase), 0.0)
        self._longest[model, phase] = max(before, pause_s / _size(phase, megapixels))


@dataclass
class Watch:
    """Follows one prompt. `megapixels` of all its images together.

    Its pauses are learned when it has ended well, all of them at once: the short pauses at the beginning of a phase
    say nothing of the long ones to come, such as the load of a second model.
    """

    patience: Patience
    model: str
    megapixels: float
    phase: Phase = Phase.LOADING
    #: when it last moved; None before the engine began with it
    moved_at: float | None = None
    _longest: dict[Phase, float] = field(default_factory=dict, init=False)

    @property
    def limit_s(self) -> float:
        """Seconds that it may stand still now."""
        return self.patience.limit_s(self.model, self.phase, self.megapixels)

    def moved(self, now: float, *, done: float = 0, total: float = 0) -> None:
        """A sign of life: a node began, or came to `done` of `total` steps."""
        if self.moved_at is not None:
            self._longest[self.phase] = max(self._longest.get(self.phase, 0.0), now - self.moved_at)
        self.moved_at = now
        if total:
            self.phase = Phase.STEPPING if done < total else Phase.FINISHING

    def ended_well(self) -> None:
        """The prompt delivered what it was to: its pauses tell how long others may take."""
        for phase, pause_s in self._longest.items():
            self.patience.learn(self.model, phase, self.megapixels, pause_s)


def _size(phase: Phase, megapixels: float) -> float:
    return 1.0 if phase is Phase.LOADING else max(megapixels, LEAST_MEGAPIXELS)
