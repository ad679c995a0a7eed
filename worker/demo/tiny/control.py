"""ControlNets for the tiny Stable Diffusion models.

A *difference* module is what is to be added to the base model's own weights: here zeros, so that the trunk is the base
model's, and only with the base model at hand does it control anything sensibly. An ordinary one has a trunk of its own.
"""

import torch
from comfy.cldm.cldm import ControlNet
from comfy.ops import disable_weight_init
from comfy.supported_models_base import BASE

from . import sd
from .weights import Shapes, StateDict, fill, shapes_of, zeros

PREFIX = "control_model."
#: Layers that only a ControlNet has.
OWN_LAYERS = ("input_hint_block.", "zero_convs.", "middle_block_out.")
#: A SiLU takes away more than a third of a signal; without this gain nothing of the picture would arrive.
HINT_GAIN = 2.0
#: Size of what is added to the base model's activations, which have about size 1.
EFFECT = 0.7


def sd15_difference() -> StateDict:
    return _difference(sd.sd15_config())


def sd2_difference() -> StateDict:
    return _difference(sd.sd2_config())


def sd15_ordinary() -> StateDict:
    return ordinary(sd.sd15_config(), seed=71)


def sdxl_ordinary() -> StateDict:
    return ordinary(sd.sdxl_config(), seed=72)


def _difference(config: BASE) -> StateDict:
    nothing = zeros(_shapes(config), torch.float16)
    return {**_prefixed(nothing | _own_layers(config, seed=70)), "difference": torch.zeros(1, dtype=torch.float16)}


def ordinary(config: BASE, seed: int) -> StateDict:
    return _prefixed(fill(_shapes(config), seed, torch.float16) | _own_layers(config, seed))


def _shapes(config: BASE) -> Shapes:
    options = {key: value for key, value in config.unet_config.items() if key not in ("out_channels", "dtype")}
    return shapes_of(ControlNet(**options, hint_channels=3, device="meta", operations=disable_weight_init))


def _own_layers(config: BASE, seed: int) -> StateDict:
    shapes = {name: shape for name, shape in _shapes(config).items() if name.startswith(OWN_LAYERS)}
    own = fill(shapes, seed, torch.float16)
    tempered = {name: tensor * (HINT_GAIN if "hint" in name else EFFECT) for name, tensor in own.items()}
    # These channels carry the noisy latent past the model's random layers (see sd.py).
    tempered["zero_convs.0.0.weight"][: 4 * sd.GROUP] = 0
    return tempered


def _prefixed(state: StateDict) -> StateDict:
    return {PREFIX + name: tensor for name, tensor in state.items()}
