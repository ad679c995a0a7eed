"""Which sizes fit into a device's memory, learned from pictures that were made and from those that ran out of it. Pure.

A sampler decides what fits: weights wait in RAM where a picture needs their place, and decoding goes tile by tile. What
it takes grows with the pixels it has before it at once, so that a larger size's need is known before that is tried. All
of it errs on the small side and is forgotten within minutes, because drivers, files and what else runs on the machine
change.

Times are seconds of a monotonic clock.
"""

from dataclasses import dataclass, field

from worker.bounded_dict import BoundedDict
from worker.engine.card_watch import CONTEXT_BYTES
from worker.engine.events import MemoryNeed
from worker.scheduling.device_limits import SizeLimit
from worker.units import GIB

#: What a sampler takes at any size: work space of libraries, weights that pass through.
FIXED_BYTES = GIB // 2
#: Models on devices remembered at most.
MOST_KINDS = 512

#: A model and a device.
Kind = tuple[str, str]


@dataclass
class _Known:
    """What is known of a model on a device."""

    #: bytes beside context and fixed work space
    available: int = 0
    #: pixels made at once at most
    made: int = 0
    bytes_per_pixel: float = 0.0
    until: float = 0.0


@dataclass
class MemoryNeeds:
    """Sizes that can't fit, from what smaller pictures took."""

    lasts_s: float = 900.0
    _known: BoundedDict[Kind, _Known] = field(default_factory=lambda: BoundedDict(MOST_KINDS), init=False)

    def learn(self, model: str, device: str, now: float, *, pixels: int, evaluations: int, need: MemoryNeed) -> None:
        """Pictures of `pixels` together were made at once; `evaluations` as in `evaluations_of`."""
        known = self._known[model, device] = self._known.get((model, device)) or _Known()
        known.available = max(0, need.total - CONTEXT_BYTES - FIXED_BYTES)
        known.made = max(known.made, pixels)
        if now >= known.until:
            known.bytes_per_pixel = 0.0
        if pixels and evaluations:
            seen = max(0, need.used - FIXED_BYTES) / (pixels * evaluations)
            if seen > known.bytes_per_pixel:
                known.bytes_per_pixel, known.until = seen, now + self.lasts_s

    def expected_bytes(self, model: str, device: str, now: float, *, pixels: int) -> float:
        """What sampling `pixels` takes beside the weights, by what smaller ones took; 0 where nothing is known."""
        known = self._known.get((model, device))
        if known is None or now >= known.until or not known.bytes_per_pixel:
            return 0.0
        return known.bytes_per_pixel * pixels + FIXED_BYTES

    def limit_of(self, model: str, device: str, now: float, *, wanted: int) -> SizeLimit | None:
        """How many of the `wanted` pixels fit, where not all do."""
        most = self._most_pixels(model, device, now)
        if most is None or most >= wanted:
            return None
        needed = self.expected_bytes(model, device, now, pixels=wanted)
        room = self._known[model, device].available + FIXED_BYTES
        reason = f"a larger picture needs about {needed / GIB:.1f} GiB, and the card has {room / GIB:.1f} GiB for it"
        return SizeLimit(most, reason)

    def images(self, model: str, device: str, now: float, *, pixels: int) -> int | None:
        """Images of `pixels` each that fit at once; None where nothing is known against any number."""
        most = self._most_pixels(model, device, now)
        return None if most is None else max(1, most // pixels)

    def _most_pixels(self, model: str, device: str, now: float) -> int | None:
        known = self._known.get((model, device))
        if known is None or now >= known.until or not known.bytes_per_pixel:
            return None
        most = int(known.available / known.bytes_per_pixel)
        # Where more than that was made, the engine takes less when there is less, and nothing can be foretold.
        return most if most >= known.made else None


@dataclass
class _RanOut:
    """What ran out of memory at last. None: nothing of the kind so far."""

    pixels: int | None = None
    images: int | None = None
    lasts_s: float = 0.0
    until: float = 0.0


@dataclass
class OutOfMemoryLimits:
    """Sizes at which memory ran out: for a while nothing as large is taken, longer each time it happens again."""

    #: of the size that failed, what is tried next
    share: float = 0.75
    lasts_s: float = 600.0
    longest_s: float = 2 * 3600.0
    _ran_out: BoundedDict[Kind, _RanOut] = field(default_factory=lambda: BoundedDict(MOST_KINDS), init=False)

    def ran_out(self, model: str, device: str, now: float, *, pixels: int, batch: int) -> None:
        """Memory was not enough for `batch` images of `pixels` each. First batches shrink, then pictures."""
        known = self._ran_out.get((model, device)) or _RanOut()
        if now >= known.until:
            # Twice as long as before, unless it worked for as long as that.
            again = now < known.until + known.lasts_s
            lasts_s = min(2 * known.lasts_s, self.longest_s) if again and known.lasts_s else self.lasts_s
            known = _RanOut(lasts_s=lasts_s)
        known.until = now + known.lasts_s
        self._ran_out[model, device] = known
        if batch > 1:
            known.images = min(batch - 1, known.images or batch)
        else:
            known.pixels = min(int(pixels * self.share), known.pixels or pixels)

    def limit_of(self, model: str, device: str, now: float) -> SizeLimit | None:
        """The size that may be asked for; None without a limit."""
        known = self._ran_out.get((model, device))
        if known is None or known.pixels is None or now >= known.until:
            return None
        return SizeLimit(known.pixels, "the memory ran out at a larger size")

    def images(self, model: str, device: str, now: float) -> int | None:
        """Images of one job that fit; None where nothing is known against any number."""
        known = self._ran_out.get((model, device))
        return known.images if known and now < known.until else None
