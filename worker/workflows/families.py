"""What sets the model families of the Horde apart for a request."""

from typing import NamedTuple

from worker.workflows.types import Family


class Traits(NamedTuple):
    """What the request needs to know about a family."""

    #: side of the squares that the models were trained on, in pixels
    native_px: int
    #: hires fix: a second pass at the full size exists
    hires: bool = True
    #: no second pass for pictures with a side of this many pixels or fewer
    hires_above_px: int = 0
    #: the one scheduler that the models work well with; None for any
    scheduler: str | None = None
    #: a payload's `scheduler` overrides it all the same
    scheduler_may_be_asked: bool = False
    #: inpainting without an inpainting model starts from a greyed-out part; the other families sample the part anew
    fills_grey: bool = False
    #: the smallest side that works, in pixels
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
