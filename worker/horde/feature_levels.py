"""What the server offers from which feature level on: its table for the name this worker goes by.

A level is the first number of the version in the agent's name. Some of it comes whatever the worker says, some only
with a switch of the pop, some only for models the pop lists; that is for whoever builds the pop.
"""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final


class Gate(str, Enum):
    """A kind of job that is held back from workers below a level."""

    PICTURES = "text to picture"
    SOURCE_IMAGE = "source pictures"
    INPAINTING = "inpainting"
    POST_PROCESSING = "post-processing by the old processors"
    CONTROLNET = "ControlNet"
    HIRES_FIX = "hires fix"
    CLIP_SKIP = "clip skip"
    TILING = "tiling"
    LORA = "LoRA"
    TEXTUAL_INVERSION = "textual inversion"
    SAMPLERS = "samplers"
    LORA_VERSIONS = "LoRA by version"
    LCM = "the sampler lcm"
    EXTRA_SOURCES = "extra source pictures"
    CASCADE_TWO_PASSES = "Stable Cascade in two passes"
    QR_CODE = "QR codes"
    TRANSPARENT = "transparent pictures"
    FLUX = "Flux"
    NEW_POST_PROCESSING = "post-processing by the new processors"


GATES: Final[Mapping[int, tuple[Gate, ...]]] = {
    1: (
        Gate.SOURCE_IMAGE,
        Gate.INPAINTING,
        Gate.POST_PROCESSING,
        Gate.CONTROLNET,
        Gate.HIRES_FIX,
        Gate.CLIP_SKIP,
        Gate.TILING,
    ),
    # No sampler is allowed below it, hence no job at all.
    2: (Gate.PICTURES, Gate.SAMPLERS, Gate.LORA, Gate.TEXTUAL_INVERSION),
    3: (Gate.LORA_VERSIONS, Gate.LCM),
    5: (Gate.EXTRA_SOURCES,),
    6: (Gate.CASCADE_TWO_PASSES,),
    7: (Gate.QR_CODE,),
    8: (Gate.TRANSPARENT,),
    9: (Gate.FLUX,),
    13: (Gate.NEW_POST_PROCESSING,),
}
#: Below it there are no jobs at all, so no worker goes lower.
LOWEST_LEVEL: Final = 2
HIGHEST_LEVEL: Final = max(GATES)


def level_without(closed: Collection[Gate]) -> int:
    """The highest level at which none of these kinds of job is offered."""
    below = [level for level in GATES if level > LOWEST_LEVEL and not set(closed).isdisjoint(GATES[level])]
    if not below:
        return HIGHEST_LEVEL
    return max(level for level in GATES if level < min(below))
