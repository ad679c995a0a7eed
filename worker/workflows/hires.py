"""Hires fix: the size of the first pass and the steps of the second.

Both decide what a picture looks like, so the figures are those of horde-engine, which the Horde's requesters know.
"""

from worker.workflows.families import TRAITS
from worker.workflows.types import Family

STRIDE_PX = 64

#: At this many steps or fewer the second pass gets three more; and its minimum.
FEW_STEPS = 18
FEWEST_STEPS = 6


def wants_second_pass(family: Family, width: int, height: int) -> bool:
    """Whether the family has a second pass and the picture is large enough for it."""
    traits = TRAITS[family]
    return traits.hires and min(width, height) > traits.hires_above_px


def first_pass_size(family: Family, width: int, height: int) -> tuple[int, int]:
    """Width and height of the first pass, multiples of 64."""
    first = TRAITS[family].first_pass
    if first.sizes:
        ratio = width / height
        return min(first.sizes, key=lambda size: abs(size[0] / size[1] - ratio))
    side, most = (max(width, height), first.longer_px) if first.longer_px else (min(width, height), first.shorter_px)
    if side <= most:
        return width, height
    shrink = side / most
    # The short side of a very long picture would become 0.
    least = TRAITS[family].min_side_px
    return max(_shrunk(width, shrink), least), max(_shrunk(height, shrink), least)


def _shrunk(side: int, shrink: float) -> int:
    return int(side // (shrink * STRIDE_PX)) * STRIDE_PX


def second_pass_steps(family: Family, width: int, height: int, steps: int, denoise: float) -> int:
    """Steps of the second pass: more for larger pictures and stronger denoising, never more than the first's."""
    native = TRAITS[family].native_px
    growth = (width * height / native**2) / (3 * 512 / native)
    second = round(3 + (steps - 3) * denoise**2)
    # Beyond 2**16 the bound below holds anyway, and floats would overflow.
    second = round(second * (2 ** min(growth, 16.0) / 2.25))
    if steps <= FEW_STEPS:
        second += 3
    second = min(second, steps)
    return max(second, min(FEWEST_STEPS, steps))
