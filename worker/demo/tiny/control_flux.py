"""ControlNets for the tiny Flux models, in both forms that owners have.

XLabs' take the map as a picture and have the names of Flux; InstantX' take it as a latent, have the names of diffusers,
and may do several control types, each with a token of its own.
"""

import torch
from comfy.ldm.flux.controlnet import ControlNetFlux
from comfy.ops import disable_weight_init
from comfy.utils import flux_to_diffusers

from .dit import FP8, dev_config
from .weights import StateDict, fill, shapes_of

#: Size of what is added to the model's activations, which have about size 1.
EFFECT = 0.7
#: As many as the real one has tokens for.
UNION_MODES = 10
LATENT_CHANNELS = 16


def flux_union() -> StateDict:
    return _as_diffusers(
        _network(80, latent_input=True, num_union_modes=UNION_MODES, control_latent_channels=LATENT_CHANNELS)
    )


def flux_pictures() -> StateDict:
    # Newer versions of ComfyUI name two norms otherwise in their modules, but know files by the published names.
    return {name.replace("_norm.weight", "_norm.scale"): tensor for name, tensor in _network(81).items()}


def _network(seed: int, **kind: int) -> StateDict:
    options = {key: value for key, value in dev_config().unet_config.items() if key != "dtype"}
    network = ControlNetFlux(**options, **kind, dtype=torch.float16, device="meta", operations=disable_weight_init)
    state = fill(shapes_of(network), seed, torch.float16, wide=FP8)
    # What the network gives to the model is small, and the tokens are told apart: too much for fp8.
    own = {name: shape for name, shape in shapes_of(network).items() if name.startswith("controlnet_")}
    return state | {name: tensor * EFFECT for name, tensor in fill(own, seed, torch.float16).items()}


def _as_diffusers(state: StateDict) -> StateDict:
    """The same under the names of diffusers, which has the parts of some matrices apart."""
    config = dev_config().unet_config
    renamed: StateDict = {}
    taken: set[str] = set()
    for name, target in flux_to_diffusers(config).items():
        source, part = (target, None) if isinstance(target, str) else target[:2]
        if source in state:
            taken.add(source)
            renamed[name] = state[source] if part is None else state[source].narrow(*part)
    return renamed | {name: tensor for name, tensor in state.items() if name not in taken}
