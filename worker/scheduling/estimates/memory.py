"""What pictures need of a card's memory beside the weights, learned from those that were made. Pure.

A sampler decides what fits: weights wait in RAM where a picture needs their place, and decoding goes tile by tile. What
it takes grows with the pixels it has before it at once, so that a larger size's need is known before that is tried. All
guesses err on the small side, and are forgotten after a while; what runs out of memory nevertheless is for
`quarantine.Ceilings`.

Times are seconds of a monotonic clock.
"""

from dataclasses import dataclass, field

from worker.engine.events import MemoryNeed
from worker.engine.vram import CONTEXT_BYTES, GIB
from worker.scheduling.device_limits import Limit

#: What a sampler takes at any size: work space of libraries, weights that pass through.
FIXED_BYTES = GIB // 2
#: Models on cards remembered at most; the least recently learned goes first.
KINDS = 512


@dataclass
class _Known:
    """What is known of a model on a card."""

    room: int = 0
    #: pixels made at once at most
    made: int = 0
    bytes_per_pixel: float = 0.0
    until: float = 0.0


@dataclass
class MemoryNeeds:
    """Sizes that can't fit, by model and device."""

    lasts_s: float = 2 * 3600.0
    _known: dict[tuple[str, str], _Known] = field(default_factory=dict, init=False)

    def learn(self, model: str, device: str, now: float, *, pixels: int, evaluations: int, need: MemoryNeed) -> None:
        """Pictures of so many pixels together were made at once; `evaluations` as in `evaluations_of`."""
        # Put back at the end: the order of the dict is the order of learning.
        known = self._known[model, device] = self._known.pop((model, device), _Known())
        while len(self._known) > KINDS:
            del self._known[next(iter(self._known))]
        known.room = max(0, need.total - CONTEXT_BYTES - FIXED_BYTES)
        known.made = max(known.made, pixels)
        if now >= known.until:
            known.bytes_per_pixel = 0.0
        if pixels and evaluations:
            seen = max(0, need.used - FIXED_BYTES) / (pixels * evaluations)
            if seen > known.bytes_per_pixel:
                known.bytes_per_pixel, known.until = seen, now + self.lasts_s

    def limit_of(self, model: str, device: str, now: float, *, wanted: int) -> Limit | None:
        """How many of the `wanted` pixels fit, where not all do."""
        most = self._most_pixels(model, device, now)
        if most is None or most >= wanted:
            return None
        known = self._known[model, device]
        needed, room = known.bytes_per_pixel * wanted + FIXED_BYTES, known.room + FIXED_BYTES
        reason = f"a larger picture needs about {needed / GIB:.1f} GiB, and the card has {room / GIB:.1f} GiB for it"
        return Limit(most, reason)

    def images(self, model: str, device: str, now: float, *, pixels: int) -> int | None:
        """Images of so many pixels that fit at once; None where nothing is known against any number."""
        most = self._most_pixels(model, device, now)
        return None if most is None else max(1, most // pixels)

    def _most_pixels(self, model: str, device: str, now: float) -> int | None:
        known = self._known.get((model, device))
        if known is None or now >= known.until or not known.bytes_per_pixel:
            return None
        most = int(known.room / known.bytes_per_pixel)
        # Where more than that was made, the engine takes less when there is less, and nothing can be foretold.
        return most if most >= known.made else None
