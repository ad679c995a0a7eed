"""The two passes of a hires fix: how large the first is, how many steps the second takes.

Sizes and steps decide what a picture looks like, so the figures are those that the Horde's requesters know.
"""

from worker.workflows.families import TRAITS
from worker.workflows.types import Family

#: Sizes SDXL was trained on, as width x height.
SDXL_SIZES = (
    (1024, 1024),
    (1152, 896), (896, 1152),
    (1216, 832), (832, 1216),
    (1344, 768), (768, 1344),
    (1536, 640), (640, 1536),
)  # fmt: skip
#: Side the first pass shrinks to, for families without sizes of their own.
FIRST_PASS_PX = 512
CASCADE_FIRST_PASS_PX = 1024
STRIDE_PX = 64

#: Below these many steps for the whole picture the second pass takes some more.
FEW_STEPS = 18
FEWEST_STEPS = 6


def wants_second_pass(family: Family, width: int, height: int) -> bool:
    """Is the picture large enough, and can the family do it at all?"""
    traits = TRAITS[family]
    return traits.hires and min(width, height) > traits.hires_above_px


def first_pass_size(family: Family, width: int, height: int) -> tuple[int, int]:
    """Width and height of the first pass, multiples of 64."""
    match family:
        case Family.STABLE_DIFFUSION_XL:
            ratio = width / height
            return min(SDXL_SIZES, key=lambda size: abs(size[0] / size[1] - ratio))
        case Family.STABLE_CASCADE:
            if max(width, height) <= CASCADE_FIRST_PASS_PX:
                return width, height
            shrink = max(width, height) / CASCADE_FIRST_PASS_PX
        case _:
            if min(width, height) <= FIRST_PASS_PX:
                return width, height
            shrink = min(width, height) / FIRST_PASS_PX
    # A very long, narrow picture must not lose its short side altogether.
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
