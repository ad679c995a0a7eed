"""LayerDiffuse's files: what makes a model draw on nothing, and what tells the picture's transparency afterwards.

For SD1.5 a file holds units that replace the attention layers of a UNet with as many as the real one has ("Tiny SD1.5
Deep"); for SDXL, differences of convolutions. The decoders are alike: a UNet of seven levels from the picture, with
the latent added at the third, to alpha and colour.
"""

from collections.abc import Iterator

import torch

from . import sd
from .checkpoint import unet_shapes
from .weights import StateDict, fill, zeros

#: Rank of the units' changes to the attention's projections; fixed where they are loaded.
RANK = 256
#: Outputs of the decoder: alpha, red, green, blue.
OUTPUTS = 4
LEVELS = (32, 32, 64, 128, 256, 512, 512)
#: Layers wider than this are zeros: most of the file, and the picture gets along without.
WIDEST = 128
#: The first level with attention, and the one the latent is added at.
FIRST_ATTENTION, LATENT_LEVEL = 4, 2
#: Changed convolutions of SDXL's UNet, and how much of their own size the change has.
CONVOLUTIONS, CHANGE = (".in_layers.2.weight", ".out_layers.3.weight"), 0.3

Shaped = Iterator[tuple[str, torch.Size]]


def sd15_attention() -> StateDict:
    shapes = dict(unet_shapes(sd.sd15_deep_config()))
    layers = [name.removesuffix(".to_q.weight") for name in shapes if name.endswith(".to_q.weight")]
    # The way down, the way up, and only then the middle.
    layers.sort(key=lambda name: name.startswith("middle_block."))
    wanted: dict[str, torch.Size] = {}
    for number, layer in enumerate(layers):
        wanted |= dict(_unit(f"hookers.layers.{number}", layer, shapes))
    return fill(wanted, 100, torch.float16)


def sdxl_convolutions() -> StateDict:
    shapes = unet_shapes(sd.sdxl_config())
    # The last block's would reach the channels that carry the noisy latent (see sd.py).
    last = sd.last_output_block(shapes)
    chosen = {
        name: shape for name, shape in shapes.items() if name.endswith(CONVOLUTIONS) and not name.startswith(last)
    }
    drawn = fill(chosen, 101, torch.float16)
    return {f"diffusion_model.{name}::diff::0": tensor * CHANGE for name, tensor in drawn.items()}


def sd15_decoder() -> StateDict:
    return _decoder(seed=102)


def sdxl_decoder() -> StateDict:
    return _decoder(seed=103)


def _unit(prefix: str, layer: str, shapes: dict[str, torch.Size]) -> Shaped:
    width = shapes[f"{layer}.to_q.weight"][0]
    for ours, theirs in (("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("to_out", "to_out.0")):
        rows, columns = shapes[f"{layer}.{theirs}.weight"]
        yield f"{prefix}.{ours}_lora.0.down.weight", torch.Size((RANK, columns))
        yield f"{prefix}.{ours}_lora.0.up.weight", torch.Size((rows, RANK))
    for part in ("i", "q", "k", "v", "o"):
        yield from _weighted(f"{prefix}.temporal_{part}", width, width)
    yield from _weighted(f"{prefix}.temporal_n", width)


def _decoder(seed: int) -> StateDict:
    shapes = dict(_decoder_shapes())
    narrow = {name: shape for name, shape in shapes.items() if max(shape) <= WIDEST}
    state = zeros(shapes, torch.float16) | fill(narrow, seed, torch.float16)
    # What comes out is cut to 0...1.
    state["conv_out.bias"] += 0.5
    return state


def _decoder_shapes() -> Shaped:
    top = len(LEVELS) - 1
    yield from _weighted("conv_in", LEVELS[0], 3, 3, 3)
    yield from _weighted("latent_conv_in", LEVELS[LATENT_LEVEL], 4, 1, 1)
    skipped = [LEVELS[0]]
    width = LEVELS[0]
    for level, outputs in enumerate(LEVELS):
        for layer in range(2):
            yield from _layer(f"down_blocks.{level}", layer, width, outputs, attends=level >= FIRST_ATTENTION)
            width = outputs
            skipped.append(outputs)
        if level < top:
            yield from _weighted(f"down_blocks.{level}.downsamplers.0.conv", width, width, 3, 3)
            skipped.append(width)
    yield from _layer("mid_block", 0, width, width, attends=True)
    yield from _layer("mid_block", 1, width, width, attends=False)
    for level, outputs in enumerate(reversed(LEVELS)):
        for layer in range(3):
            inputs = width + skipped.pop()
            yield from _layer(f"up_blocks.{level}", layer, inputs, outputs, attends=level <= top - FIRST_ATTENTION)
            width = outputs
        if level < top:
            yield from _weighted(f"up_blocks.{level}.upsamplers.0.conv", width, width, 3, 3)
    yield from _weighted("conv_norm_out", width)
    yield from _weighted("conv_out", OUTPUTS, width, 3, 3)


def _layer(block: str, number: int, inputs: int, outputs: int, *, attends: bool) -> Shaped:
    residual = f"{block}.resnets.{number}"
    yield from _weighted(f"{residual}.norm1", inputs)
    yield from _weighted(f"{residual}.conv1", outputs, inputs, 3, 3)
    yield from _weighted(f"{residual}.norm2", outputs)
    yield from _weighted(f"{residual}.conv2", outputs, outputs, 3, 3)
    if inputs != outputs:
        yield from _weighted(f"{residual}.conv_shortcut", outputs, inputs, 1, 1)
    if attends:
        attention = f"{block}.attentions.{number}"
        yield from _weighted(f"{attention}.group_norm", outputs)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            yield from _weighted(f"{attention}.{part}", outputs, outputs)


def _weighted(name: str, *shape: int) -> Shaped:
    yield f"{name}.weight", torch.Size(shape)
    yield f"{name}.bias", torch.Size(shape[:1])
