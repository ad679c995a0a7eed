"""What can be done within the time the Horde gives, on an engine of known speed. Pure.

The Horde gives a job 30 seconds and two for every step of 512x512 pixels, 150 at least, whatever the size of its
batch. Work and time given both grow with pixels and steps, so that only the ends of the range and the point where
more than the least time is given need a look.
"""

from dataclasses import dataclass

from worker.workflows.types import Family

LEAST_TTL_S = 150.0
BASE_TTL_S, TTL_S_PER_UNIT = 30.0, 2e6 / 512**2
#: These get three times as much, before the least is applied.
GENEROUS = frozenset({Family.FLUX_1, Family.QWEN_IMAGE, Family.Z_IMAGE_TURBO})
#: Three times as much in any case.
EXTRA_SLOW = 3.0
#: Share of the time given that an engine may take: fetching, loading a model and delivering need theirs.
SHARE = 0.6
#: Steps of an ordinary job.
STEPS = 30


def ttl_s(work: float, family: Family, *, extra_slow: bool = False) -> float:
    """Seconds that the Horde gives for one image of so many megapixelsteps."""
    generosity = 3.0 if family in GENEROUS else 1.0
    return max(LEAST_TTL_S, generosity * (BASE_TTL_S + TTL_S_PER_UNIT * work)) * (EXTRA_SLOW if extra_slow else 1.0)


@dataclass(frozen=True)
class Outlook:
    """What is known of the next job of a model. Times in seconds."""

    family: Family
    #: per megapixelstep; None: unknown
    unit_s: float | None
    #: until an engine can begin
    start_s: float
    extra_slow: bool = False

    def largest_pixels(self, most: int) -> int:
        """The size in pixels up to which an ordinary job of one image is done in time, at most `most`; 0: none."""
        if not self.unit_s:
            return most
        if all(self._in_time(work) for work in self._corners(most)):
            return most
        left_s = SHARE * ttl_s(0.0, self.family, extra_slow=self.extra_slow) - self.start_s
        return max(0, min(most, int(left_s / self.unit_s * 1e6 / STEPS)))

    def most_images(self, pixels: int, most: int) -> int:
        """Images of up to so many pixels that one ordinary job may ask for; 1 where the speed is unknown."""
        if not self.unit_s:
            return 1
        images = min(self._left_s(work) / (self.unit_s * work) for work in self._corners(pixels))
        return max(1, min(most, int(images)))

    def _corners(self, pixels: int) -> tuple[float, ...]:
        """Work of the largest job, and of the largest that still gets the least time, if that is smaller."""
        largest = pixels * STEPS / 1e6
        generosity = 3.0 if self.family in GENEROUS else 1.0
        corner = (LEAST_TTL_S / generosity - BASE_TTL_S) / TTL_S_PER_UNIT
        return (corner, largest) if corner < largest else (largest,)

    def _left_s(self, work: float) -> float:
        return SHARE * ttl_s(work, self.family, extra_slow=self.extra_slow) - self.start_s

    def _in_time(self, work: float) -> bool:
        return (self.unit_s or 0.0) * work <= self._left_s(work)
