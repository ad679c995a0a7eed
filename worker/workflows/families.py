"""The model families of the Horde, and what sets them apart for a request."""

from enum import Enum
from typing import NamedTuple


class Family(str, Enum):
    """A model's baseline, by its name in the model reference."""

    STABLE_DIFFUSION_1 = "stable_diffusion_1"
    STABLE_DIFFUSION_2_512 = "stable_diffusion_2_512"
    STABLE_DIFFUSION_2_768 = "stable_diffusion_2_768"
    STABLE_DIFFUSION_XL = "stable_diffusion_xl"
    STABLE_CASCADE = "stable_cascade"
    FLUX_1 = "flux_1"
    FLUX_SCHNELL = "flux_schnell"
    FLUX_DEV = "flux_dev"
    QWEN_IMAGE = "qwen_image"
    Z_IMAGE_TURBO = "z_image_turbo"


class Traits(NamedTuple):
    """What the request needs to know about a family."""

    #: side of the square the models were trained on, in pixels
    native_px: int
    #: a second pass at the full size exists
    hires: bool = True
    #: pictures with a side of this length or less get no second pass
    hires_above_px: int = 0
    #: the scheduler, where the family's models work well with one only
    scheduler: str | None = None
    #: an explicitly asked scheduler counts all the same
    scheduler_may_be_asked: bool = False
    #: models for whole pictures can fill in a part that was made grey; the others keep it in view and sample it anew
    fills_grey: bool = False
    #: the smallest side it can draw, in pixels
    min_side_px: int = 64


TRAITS: dict[Family, Traits] = {
    Family.STABLE_DIFFUSION_1: Traits(native_px=512, hires_above_px=512, fills_grey=True),
    Family.STABLE_DIFFUSION_2_512: Traits(native_px=512, fills_grey=True),
    Family.STABLE_DIFFUSION_2_768: Traits(native_px=768, fills_grey=True),
    Family.STABLE_DIFFUSION_XL: Traits(native_px=1024, hires_above_px=1024, fills_grey=True),
    Family.STABLE_CASCADE: Traits(native_px=1024, scheduler="simple", min_side_px=256),
    Family.FLUX_1: Traits(native_px=1024, hires=False, scheduler="normal"),
    Family.FLUX_SCHNELL: Traits(native_px=1024, hires=False, scheduler="normal"),
    Family.FLUX_DEV: Traits(native_px=1024, hires=False, scheduler="normal"),
    Family.QWEN_IMAGE: Traits(native_px=1024, hires=False, scheduler="simple", scheduler_may_be_asked=True),
    Family.Z_IMAGE_TURBO: Traits(native_px=1024, hires=False, scheduler="simple", scheduler_may_be_asked=True),
}
