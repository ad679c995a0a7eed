"""What can be done within a job's time to live, on an engine of known speed. Pure.

    ttl = max(150, g * (30 + 2 * steps * pixels / 512²)) seconds,    g: the `ttl` of the family

whatever the size of the batch (measured on the server); three times that for an extra slow worker. Work and ttl both
grow with pixels and steps, so that only the ends of the range and the point where more than the least ttl is given
need a look.
"""

from dataclasses import dataclass

from worker.workflows.families import TRAITS
from worker.workflows.types import Family

LEAST_TTL_S = 150.0
BASE_TTL_S, TTL_S_PER_UNIT = 30.0, 2e6 / 512**2
#: Factor of the whole for an extra slow worker.
EXTRA_SLOW = 3.0
#: Share of the ttl that sampling may take: fetching, loading a model, decoding and delivering need the rest.
SHARE = 0.6
#: Steps of an ordinary job.
STEPS = 30


def ttl_s(work: float, family: Family, *, extra_slow: bool = False) -> float:
    """Seconds that the Horde gives for one image of `work` megapixelsteps."""
    given = TRAITS[family].ttl * (BASE_TTL_S + TTL_S_PER_UNIT * work)
    return max(LEAST_TTL_S, given) * (EXTRA_SLOW if extra_slow else 1.0)


@dataclass(frozen=True)
class TimeLimits:
    """Sizes and batches that the next job of a model can have and still be done in time. Times in seconds."""

    family: Family
    #: per megapixelstep; None: unknown, and then nothing is limited but batches
    unit_s: float | None
    #: until an engine can begin
    start_s: float
    extra_slow: bool = False

    def largest_pixels(self, most: int) -> int:
        """The largest size in pixels, at most `most`, of which one ordinary image is done in time; 0: none."""
        if not self.unit_s:
            return most
        if all(self._in_time(work) for work in self._corners(most)):
            return most
        left_s = SHARE * ttl_s(0.0, self.family, extra_slow=self.extra_slow) - self.start_s
        return max(0, min(most, int(left_s / self.unit_s * 1e6 / STEPS)))

    def most_images(self, pixels: int, most: int) -> int:
        """Images of up to `pixels` that one ordinary job may ask for, at most `most`; 1 where the speed is unknown."""
        if not self.unit_s:
            return 1
        images = min(self._left_s(work) / (self.unit_s * work) for work in self._corners(pixels))
        return max(1, min(most, int(images)))

    def _corners(self, pixels: int) -> tuple[float, ...]:
        """Work of the largest job, and of the largest that still gets the least ttl, if that is smaller."""
        largest = pixels * STEPS / 1e6
        corner = (LEAST_TTL_S / TRAITS[self.family].ttl - BASE_TTL_S) / TTL_S_PER_UNIT
        return (corner, largest) if corner < largest else (largest,)

    def _left_s(self, work: float) -> float:
        return SHARE * ttl_s(work, self.family, extra_slow=self.extra_slow) - self.start_s

    def _in_time(self, work: float) -> bool:
        return (self.unit_s or 0.0) * work <= self._left_s(work)
