"""Which models a device can be asked for, up to which size, and whose turn it is among several sizes. Pure.

A pop has one limit of size for all its models. Where some models can't do what others can, there are several sizes to
ask for, each with the models that can do it. The Horde takes the models from each pop, but stores the limit of size
only now and then and goes by what it has stored: so each size has its turn for minutes, and a pop names only models
that can do whatever may come.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

#: Jobs for smaller pictures than this are rare: a model that can't do it is not offered.
LEAST_PIXELS = 256 * 256


@dataclass(frozen=True)
class SizeLimit:
    """The largest picture of a model at present in pixels, 0 for none, and why not larger."""

    pixels: int
    reason: str


@dataclass(frozen=True)
class DeviceLimits:
    """What one device can be asked for at present."""

    models: tuple[str, ...]
    #: of those models that can't do all that the owner allows
    limits: Mapping[str, SizeLimit]
    #: what the owner allows
    max_pixels: int

    def among(self, names: Collection[str]) -> "DeviceLimits":
        """The same for these models alone, or for all where the device can do nothing with them."""
        some = replace(self, models=tuple(model for model in self.models if model in names))
        return some if some.sizes() else self

    def sizes(self) -> set[int]:
        """For each model the largest size that is of use; halves, quarters … of `max_pixels`, to have but a few."""
        return {size for model in self.models if (size := self._size(model))}

    def able(self, pixels: int) -> tuple[str, ...]:
        """The models that can do all sizes up to `pixels`."""
        return tuple(model for model in self.models if self._size(model) and self._most(model) >= pixels)

    def withdrawn(self) -> dict[str, str]:
        """Models that can do nothing of use, with the reason."""
        return {model: limit.reason for model, limit in self.limits.items() if not self._size(model)}

    def _most(self, model: str) -> int:
        return self.limits[model].pixels if model in self.limits else self.max_pixels

    def _size(self, model: str) -> int:
        """The largest halving of `max_pixels` that the model can do, 0 where that is too small to be of use."""
        size = self.max_pixels
        while size > self._most(model):
            size //= 2
            if size < LEAST_PIXELS:
                return 0
        return size


def withdrawn_everywhere(devices: Iterable[DeviceLimits]) -> dict[str, str]:
    """Models that are withdrawn from every device that is for them, with the reason on the first."""
    reasons: dict[str, list[str | None]] = {}
    for device in devices:
        withdrawn = device.withdrawn()
        for model in device.models:
            reasons.setdefault(model, []).append(withdrawn.get(model))
    return {model: found[0] for model, found in reasons.items() if found[0] and None not in found}


def tightest(limits: Iterable[SizeLimit | None]) -> SizeLimit | None:
    """The smallest of several limits."""
    return min((limit for limit in limits if limit), key=lambda limit: limit.pixels, default=None)


def stick(models: Sequence[str], resident: Collection[str], *, stickiness: float, roll: float) -> tuple[str, ...]:
    """The models to offer when those in memory go first with probability `stickiness`; `roll` is from 0 to below 1."""
    in_memory = tuple(model for model in models if model in resident)
    return in_memory if in_memory and roll < stickiness else tuple(models)


@dataclass(frozen=True)
class RotationTimes:
    """Seconds of `MaxPixelsRotation`."""

    #: the Horde stores a limit at most once in 30 s, so that what it stored is no older at a pop; a pop may take its
    #: time on the way there
    stored_s: float = 40.0
    #: how long a turn lasts while it brings jobs, and while it does not (half of which the Horde may not know it)
    fruitful_turn_s: float = 600.0
    fruitless_turn_s: float = 80.0


@dataclass(eq=False)
class MaxPixelsRotation:
    """Whose turn it is among several sizes. Times are seconds of a monotonic clock."""

    times: RotationTimes = field(default_factory=RotationTimes)
    #: the size whose turn it is
    current: int = field(default=0, init=False)
    #: sizes of late pops, with when each was last sent
    _sent: dict[int, float] = field(default_factory=dict, init=False)
    _most: int = field(default=0, init=False)
    _since: float = field(default=float("-inf"), init=False)

    def advance(self, sizes: Collection[int], most: int, now: float, *, fruitful: bool) -> None:
        """Give the turn to the next of the sizes that are of use now (one at least), if the time has come.

        The largest begins, also when the owner's limit, `most`, is another. `fruitful`: the last pop brought a job.
        """
        if most != self._most:
            self._most, self._since, self.current = most, float("-inf"), 0
        turn_s = self.times.fruitful_turn_s if fruitful else self.times.fruitless_turn_s
        is_over = now - self._since >= turn_s
        if is_over or self.current > max(sizes):
            following = max((size for size in sizes if size < self.current), default=max(sizes))
            if following != self.current:
                self.current, self._since = following, now

    def largest_in_force(self, size: int, now: float) -> int:
        """The largest picture that may come if a pop with this size is sent now: the Horde may go by a recent one."""
        return max((size, *(sent for sent, at in self._sent.items() if now - at < self.times.stored_s)))

    def in_force_until(self, size: int, now: float) -> float:
        """When the Horde has forgotten every size larger than this one."""
        return max((at + self.times.stored_s for sent, at in self._sent.items() if sent > size), default=now)

    def note_sent(self, size: int, now: float) -> None:
        """A pop goes out with this size."""
        self._sent = {sent: at for sent, at in self._sent.items() if now - at < self.times.stored_s} | {size: now}
