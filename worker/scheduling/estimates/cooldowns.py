"""What engines can't do, learned from how they failed: models that break them, sizes that don't fit. Pure.

Times are seconds of a monotonic clock. Everything is forgotten after a while, because drivers, files and what else
runs on the machine change.
"""

from collections import deque
from dataclasses import dataclass, field

from worker.scheduling.device_limits import Limit


@dataclass
class _Record:
    failures: deque[float] = field(default_factory=deque)
    rest_s: float = 0.0
    until: float = 0.0
    why: str = ""


@dataclass
class Quarantine:
    """Sets a model aside that ends engines one after another. A longer rest each time, until it works again."""

    #: engines that a model may break within `window_s` without a success between
    limit: int = 3
    window_s: float = 3600.0
    rest_s: float = 1800.0
    longest_rest_s: float = 6 * 3600.0
    _records: dict[str, _Record] = field(default_factory=dict, init=False)

    def failed(self, model: str, now: float, why: str) -> bool:
        """An engine broke while it worked for this model; whether the model is set aside by that."""
        record = self._records.setdefault(model, _Record())
        record.failures.append(now)
        while record.failures[0] <= now - self.window_s:
            record.failures.popleft()
        if len(record.failures) < self.limit:
            return False
        record.failures.clear()
        record.rest_s = min(2 * record.rest_s or self.rest_s, self.longest_rest_s)
        record.until, record.why = now + record.rest_s, why
        return True

    def succeeded(self, model: str) -> None:
        self._records.pop(model, None)

    def limit_of(self, model: str, now: float) -> Limit | None:
        """Nothing of the model may be taken, or nothing is against it."""
        record = self._records.get(model)
        if record is None or now >= record.until:
            return None
        return Limit(0, f"it broke {self.limit} engines in a row, the last by: {record.why}")


@dataclass
class Ceilings:
    """Sizes at which memory ran out, by model and device: what is as large or larger is not taken for a while."""

    #: of the size that failed, what is tried next
    share: float = 0.75
    lasts_s: float = 2 * 3600.0
    _pixels: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict, init=False)
    _images: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict, init=False)

    def ran_out(self, model: str, device: str, now: float, *, pixels: int, batch: int) -> None:
        """Memory was not enough for so many images of so many pixels. First batches shrink, then pictures."""
        if batch > 1:
            images = min(batch - 1, self.images(model, device, now) or batch)
            self._images[model, device] = images, now + self.lasts_s
        else:
            limit = self.limit_of(model, device, now)
            pixels = int(pixels * self.share)
            self._pixels[model, device] = min(pixels, limit.pixels) if limit else pixels, now + self.lasts_s

    def limit_of(self, model: str, device: str, now: float) -> Limit | None:
        pixels, until = self._pixels.get((model, device), (0, 0.0))
        return Limit(pixels, "the memory ran out at a larger size") if now < until else None

    def images(self, model: str, device: str, now: float) -> int | None:
        """Images of one job that fit; None where nothing is known against any number."""
        images, until = self._images.get((model, device), (0, 0.0))
        return images if now < until else None
