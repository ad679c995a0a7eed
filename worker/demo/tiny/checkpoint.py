"""Checkpoints of any family, through the engine's own configuration classes.

The class gives the modules, hence the tensors' names and shapes, and the names they have in a file. Before a
checkpoint is returned the engine's detection is asked what it takes it for.
"""

from typing import Any

import torch
from comfy.ldm.flux.model import FluxParams
from comfy.model_detection import model_config_from_unet
from comfy.supported_models_base import BASE

from .weights import Shapes, StateDict, shapes_of

UNET_PREFIX = "model.diffusion_model."


def configuration(family: type[BASE], unet_config: dict[str, Any]) -> BASE:
    config = family(unet_config)
    config.set_inference_dtype(torch.float16, None)
    return config


def newer_flux_fields() -> dict[str, Any]:
    """What newer versions of ComfyUI also tell of a Flux; nothing on those that don't."""
    newer = {"txt_ids_dims": [], "yak_mlp": False, "txt_norm": False}
    return {name: value for name, value in newer.items() if name in FluxParams.__dataclass_fields__}


def unet_shapes(config: BASE) -> Shapes:
    return shapes_of(config.get_model({}, device="meta").diffusion_model)


def clip_shapes(config: BASE) -> Shapes:
    return shapes_of(config.clip_target({}).clip(device="meta", dtype=torch.float16))


def fuse(config: BASE, unet: StateDict, clip: StateDict, vae: StateDict) -> StateDict:
    """The three parts as one file. Raises ValueError when the engine would not detect `config` in it."""
    state = {
        **config.process_unet_state_dict_for_saving(unet),
        **config.process_clip_state_dict_for_saving(clip),
        **config.process_vae_state_dict_for_saving(vae),
    }
    check_detection(config, state, UNET_PREFIX)
    return state


def check_detection(config: BASE, state: StateDict, prefix: str) -> None:
    detected = model_config_from_unet(state, prefix)
    expected = {key: value for key, value in config.unet_config.items() if key != "dtype"}
    if type(detected) is not type(config) or detected.unet_config != expected:
        raise ValueError(f"meant as {type(config).__name__} {expected}, detected as {detected and vars(detected)}")
