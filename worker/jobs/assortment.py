"""Which models to offer in one pop, and up to which size. Pure.

A pop has one limit of size for all its models. Where some models can't do what others can, there are several
shelves, each with the models that can do its size, and pops take turns.
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
class Shelf:
    """Models that are offered together, and up to which size."""

    max_pixels: int
    models: tuple[str, ...]


def tightest(limits: Iterable[Limit | None]) -> Limit | None:
    """The one that counts of several."""
    return min((limit for limit in limits if limit), key=lambda limit: limit.pixels, default=None)


def arrange(models: Sequence[str], limits: Mapping[str, Limit], max_pixels: int) -> list[Shelf]:
    """Shelves from the largest size to the smallest; sizes are halves, quarters … of `max_pixels`."""
    sizes = {model: _step(limits[model].pixels, max_pixels) if model in limits else max_pixels for model in models}
    levels = sorted({size for size in sizes.values() if size}, reverse=True)
    return [Shelf(level, tuple(model for model in models if sizes[model] >= level)) for level in levels]


def withdrawn(limits: Mapping[str, Limit], max_pixels: int) -> dict[str, str]:
    """Models that are on no shelf, with the reason."""
    return {model: limit.reason for model, limit in limits.items() if not _step(limit.pixels, max_pixels)}


def _step(pixels: int, max_pixels: int) -> int:
    """The largest halving of `max_pixels` within `pixels`, 0 where that is too small to be of use."""
    size = max_pixels
    while size > pixels:
        size //= 2
        if size < LEAST_PIXELS:
            return 0
    return size


def stick(models: Sequence[str], resident: Collection[str], *, stickiness: float, roll: float) -> tuple[str, ...]:
    """The models to offer when those in memory go first with probability `stickiness`; `roll` is from 0 to below 1."""
    in_memory = tuple(model for model in models if model in resident)
    return in_memory if in_memory and roll < stickiness else tuple(models)
