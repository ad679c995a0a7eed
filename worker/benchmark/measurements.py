"""What a benchmark finds, as data."""

from dataclasses import dataclass
from enum import Enum

from worker.config.schema import PIXELS_PER_POWER
from worker.workflows.types import Family

#: Steps of an ordinary job, by which everything is compared.
STEPS = 30


class End(str, Enum):
    MADE = "made"
    OUT_OF_MEMORY = "out of memory"
    CRASHED = "the engine crashed"
    #: it takes longer than the Horde waits, or than the benchmark has
    TOO_SLOW = "too slow"
    #: the model or its template can't be used
    BROKEN = "can't be rendered"


@dataclass(frozen=True)
class Shot:
    """What is asked of an engine: one or several pictures at once."""

    model: str
    family: Family
    width: int
    height: int
    batch: int = 1

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def power(self) -> int:
        """`max_power` that allows this size."""
        return -(-self.pixels // PIXELS_PER_POWER)

    def __str__(self) -> str:
        images = f", {self.batch} at once" if self.batch > 1 else ""
        return f"{self.model} {self.width}x{self.height}{images}"


@dataclass(frozen=True)
class Measured:
    """What came of a shot. Seconds are of a whole job of `STEPS` steps on a warm engine."""

    shot: Shot
    end: End
    seconds: float = 0.0
    #: seconds that the first picture took longer: the model's way into memory
    load_s: float = 0.0
    #: bytes of the card that sampling took beside the weights; 0: the engine does not tell
    memory: int = 0
    #: bytes of RAM that the engine holds
    ram: int = 0
    why: str = ""

    @property
    def made(self) -> bool:
        return self.end is End.MADE

    @property
    def megapixelsteps_per_s(self) -> float:
        work = self.shot.pixels * STEPS * self.shot.batch / 1e6
        return work / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Subject:
    """A model that stands for those of its family."""

    model: str
    family: Family
    #: all models of the settings that it stands for, itself among them
    stands_for: tuple[str, ...] = ()
    #: False: random weights of a tiny size, whose speed and memory say nothing of real ones
    real: bool = True


@dataclass(frozen=True)
class Findings:
    """All that was measured on one machine."""

    subjects: tuple[Subject, ...]
    measured: tuple[Measured, ...]
    #: jobs at the same time → of one engine's throughput, that of all together
    together: dict[int, float]
    #: the time was over before everything was tried
    cut_short: bool = False
