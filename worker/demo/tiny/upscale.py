"""Upscalers of the ESRGAN family that enlarge and smooth, and leave the colours as they are.

The residual blocks are there and add nothing. Both spellings of the layers' names are made, the newer one of
Real-ESRGAN and the older one most community models have.
"""

from collections.abc import Iterator

import torch

from .vae import TENT
from .weights import StateDict

FILTERS = 8
BLOCKS = 2
#: Filters that a dense block grows by per layer; fixed in spandrel.
GROWTH = 32
#: Layers of a dense block, and dense blocks of a residual block.
LAYERS, DENSE = 5, 3

NEW_NAMES = (
    "conv_first",
    "body.{block}.rdb{dense}.conv{layer}",
    "conv_body",
    "conv_up{doubling}",
    "conv_hr",
    "conv_last",
)
OLD_NAMES = (
    "model.0",
    "model.1.sub.{block}.RDB{dense}.conv{layer}.0",
    f"model.1.sub.{BLOCKS}",
    "model.{position}",
    "model.8",
    "model.10",
)


def realesrgan_x4(filters: int = FILTERS, blocks: int = BLOCKS) -> StateDict:
    return {"params_ema": dict(_layers(NEW_NAMES, per_pixel=1, filters=filters, blocks=blocks))}


def realesrgan_x2() -> StateDict:
    """The same network on a picture folded to half its size, four pixels in one."""
    return {"params_ema": dict(_layers(NEW_NAMES, per_pixel=4))}


def esrgan_x4() -> StateDict:
    return dict(_layers(OLD_NAMES, per_pixel=1))


def _layers(
    names: tuple[str, ...], per_pixel: int, filters: int = FILTERS, blocks: int = BLOCKS
) -> Iterator[tuple[str, torch.Tensor]]:
    first, dense_layer, body, up, last_but_one, last = names
    identity = torch.zeros(3, 3)
    identity[1, 1] = 1
    taken = torch.zeros(filters, 3 * per_pixel, 3, 3)
    for colour in range(3):
        taken[colour, colour * per_pixel : (colour + 1) * per_pixel] = identity / per_pixel
    yield from _convolution(first, taken)
    for block in range(blocks):
        for dense in range(1, DENSE + 1):
            for layer in range(1, LAYERS + 1):
                outputs = filters if layer == LAYERS else GROWTH
                nothing = torch.zeros(outputs, filters + (layer - 1) * GROWTH, 3, 3)
                yield from _convolution(dense_layer.format(block=block, dense=dense, layer=layer), nothing)
    yield from _convolution(body, torch.zeros(filters, filters, 3, 3))
    for doubling in (1, 2):
        yield from _convolution(
            up.format(doubling=doubling, position=3 * doubling), _each_colour(filters, filters, TENT)
        )
    yield from _convolution(last_but_one, _each_colour(filters, filters, identity))
    yield from _convolution(last, _each_colour(3, filters, identity))


def _each_colour(outputs: int, inputs: int, kernel: torch.Tensor) -> torch.Tensor:
    weight = torch.zeros(outputs, inputs, 3, 3)
    for colour in range(3):
        weight[colour, colour] = kernel
    return weight


def _convolution(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    yield f"{name}.weight", weight
    yield f"{name}.bias", torch.zeros(len(weight))
