"""A small autoencoder in TAESD's shape that really encodes and decodes, blurred to one colour per 8x8 pixels.

The first three latent channels are red, green and blue; the others tint the decoded picture. So a source picture
survives a low denoising strength, masks show, and every latent channel is seen. Built by hand, not trained: blocks
pass their input on, strided convolutions average, convolutions after upsampling smooth.
"""

import torch
from comfy.latent_formats import LatentFormat
from comfy.taesd.taesd import TAESD

from .weights import StateDict, shapes_of

#: Colour range of one unit of latent: a sampled latent has deviation 1, and three deviations shall span the range.
RANGE = 0.33
#: What the channels beyond the first three add to red, green and blue.
TINT = 0.25

BOX = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.25, 0.25], [0.0, 0.25, 0.25]])
TENT = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16


def autoencoder(latent_format: LatentFormat) -> StateDict:
    """The weights, for latents as the given diffusion model scales them."""
    channels = latent_format.latent_channels
    shapes = shapes_of(TAESD(latent_channels=channels))
    state = {name: torch.zeros(shape, dtype=torch.float32) for name, shape in shapes.items()}
    state["vae_scale"] = torch.tensor(latent_format.scale_factor)
    state["vae_shift"] = torch.tensor(getattr(latent_format, "shift_factor", 0.0))
    _encode(state)
    _decode(state, channels)
    return {name: tensor.to(torch.float16) for name, tensor in state.items()}


def _encode(state: StateDict) -> None:
    for colour in range(3):
        state["taesd_encoder.0.weight"][colour, colour, 1, 1] = 1
        for halving in (2, 6, 10):
            state[f"taesd_encoder.{halving}.weight"][colour, colour] = BOX
        state["taesd_encoder.14.weight"][colour, colour, 1, 1] = 1 / RANGE
        state["taesd_encoder.14.bias"][colour] = -0.5 / RANGE


def _decode(state: StateDict, channels: int) -> None:
    to_colour = TINT * torch.randn(3, channels, generator=torch.Generator().manual_seed(channels)) / channels**0.5
    to_colour[:, :3] = torch.eye(3)
    for colour in range(3):
        # Activations can't be negative, so each colour travels as the part above grey and the part below it.
        above, below = 2 * colour, 2 * colour + 1
        state["taesd_decoder.1.weight"][above, :, 1, 1] = to_colour[colour]
        state["taesd_decoder.1.weight"][below, :, 1, 1] = -to_colour[colour]
        for doubling in (7, 12, 17):
            state[f"taesd_decoder.{doubling}.weight"][above, above] = TENT
            state[f"taesd_decoder.{doubling}.weight"][below, below] = TENT
        state["taesd_decoder.19.weight"][colour, above, 1, 1] = RANGE
        state["taesd_decoder.19.weight"][colour, below, 1, 1] = -RANGE
        state["taesd_decoder.19.bias"][colour] = 0.5
