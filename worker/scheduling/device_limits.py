"""Which models a card can be asked for, and up to which size. Pure.

A pop has one limit of size for all its models. Where some models can't do what others can, there are several sizes to
ask for (see `sizes`), each with the models that can do it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Smaller pictures than this are hardly asked for: a model that can't do it is not offered.
LEAST_PIXELS = 256 * 256


@dataclass(frozen=True)
class Limit:
    """How large a model's pictures may be at present, and why not larger."""

    pixels: int
    reason: str


@dataclass(frozen=True)
class Assortment:
    """What one card can do at present."""

    models: tuple[str, ...]
    #: of those models that can't do all that the owner allows
    limits: Mapping[str, Limit]
    #: what the owner allows
    max_pixels: int

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


def withheld(cards: Iterable[Assortment]) -> dict[str, str]:
    """Models that are withdrawn from every card that is for them, with the reason on one."""
    reasons: dict[str, list[str | None]] = {}
    for card in cards:
        withdrawn = card.withdrawn()
        for model in card.models:
            reasons.setdefault(model, []).append(withdrawn.get(model))
    return {model: found[0] for model, found in reasons.items() if found[0] and None not in found}


def tightest(limits: Iterable[Limit | None]) -> Limit | None:
    """The one that counts of several."""
    return min((limit for limit in limits if limit), key=lambda limit: limit.pixels, default=None)


def stick(models: Sequence[str], resident: Collection[str], *, stickiness: float, roll: float) -> tuple[str, ...]:
    """The models to offer when those in memory go first with probability `stickiness`; `roll` is from 0 to below 1."""
    in_memory = tuple(model for model in models if model in resident)
    return in_memory if in_memory and roll < stickiness else tuple(models)
