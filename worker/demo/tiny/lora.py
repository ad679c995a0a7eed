"""One LoRA per family, named as the common trainer names them, strong enough that it can't be overlooked.

Each changes attention and MLP of the diffusion model and of every CLIP text encoder.
"""

import re
from collections.abc import Mapping

import torch
from comfy.supported_models_base import BASE
from comfy.utils import unet_to_diffusers

from . import cascade, dit, sd
from .checkpoint import clip_shapes, unet_shapes
from .weights import Shapes, StateDict, fill

RANK = 4
#: 1 is a change as large as the weights themselves.
STRENGTH = 1.0

UNET_LAYERS = re.compile(r"(attn\d\.to_[qkv]|attn2\.to_out\.0|ff\.net\.(0\.proj|2)|proj_out)\.weight$")
FLUX_LAYERS = re.compile(r"((img|txt)_(attn\.(qkv|proj)|mlp\.[02])|linear[12])\.weight$")
QWEN_LAYERS = re.compile(r"(to_(q|k|v|out\.0)|add_\w_proj|to_add_out|(img|txt)_mlp\.net\.(0\.proj|2))\.weight$")
Z_IMAGE_LAYERS = re.compile(r"(attention\.(qkv|out)|feed_forward\.w\d)\.weight$")
CASCADE_LAYERS = re.compile(r"(to_[qkv]|out_proj|kv_mapper\.1|channelwise\.[04])\.weight$")
#: Attention and MLP of a language model.
LLM_LAYERS = re.compile(r"(self_attn\.[qkvo]_proj|mlp\.\w+_proj)\.weight$")
CLIP_LAYERS = re.compile(r"^clip_(?P<kind>.)\.transformer\.(?P<layer>.*(self_attn\.\w+_proj|mlp\.fc\d))\.weight$")


def sd15_lora() -> StateDict:
    deep = _diffusers_names(sd.sd15_deep_config())
    both = {name: shape for name, shape in _diffusers_names(sd.sd15_config()).items() if name in deep}
    return _lora(both, clip_shapes(sd.sd15_config()), {"l": "lora_te"})


def sd2_lora() -> StateDict:
    return of_diffusers(sd.sd2_config(), {"h": "lora_te"})


def sdxl_lora() -> StateDict:
    return of_own_names(sd.sdxl_config(), {"l": "lora_te1", "g": "lora_te2"})


def flux_lora() -> StateDict:
    config = dit.schnell_config()
    return _lora(_own_names(config, FLUX_LAYERS), clip_shapes(config), {"l": "lora_te1"})


def cascade_lora() -> StateDict:
    config = cascade.cascade_c_config()
    return _lora(_own_names(config, CASCADE_LAYERS), clip_shapes(config), {"g": "lora_te"})


def qwen_lora() -> StateDict:
    return plain_lora(dit.qwen_config(), QWEN_LAYERS)


def z_image_lora() -> StateDict:
    return plain_lora(dit.z_image_config(), Z_IMAGE_LAYERS)


def of_diffusers(
    config: BASE, encoders: Mapping[str, str], *, rank: int = RANK, strength: float = STRENGTH
) -> StateDict:
    """A LoRA of every attention and MLP layer, under the names that diffusers has for the layers of the UNet."""
    return _lora(_diffusers_names(config), clip_shapes(config), encoders, rank=rank, strength=strength)


def of_own_names(
    config: BASE, encoders: Mapping[str, str], *, rank: int = RANK, strength: float = STRENGTH
) -> StateDict:
    """The same, under the names that the UNet itself has."""
    return _lora(_own_names(config, UNET_LAYERS), clip_shapes(config), encoders, rank=rank, strength=strength)


def _own_names(config: BASE, layers: re.Pattern[str]) -> dict[str, torch.Size]:
    return {name: shape for name, shape in unet_shapes(config).items() if layers.search(name)}


def _diffusers_names(config: BASE) -> dict[str, torch.Size]:
    own = _own_names(config, UNET_LAYERS)
    return {name: own[at] for name, at in unet_to_diffusers(config.unet_config).items() if at in own}


def plain_lora(config: BASE, unet_layers: re.Pattern[str]) -> StateDict:
    """With the names of the engine's own modules, as trainers of newer families write them."""
    encoder = {name: shape for name, shape in clip_shapes(config).items() if LLM_LAYERS.search(name)}
    return _pairs(
        {
            f"diffusion_model.{name.removesuffix('.weight')}": shape
            for name, shape in _own_names(config, unet_layers).items()
        }
        | {f"text_encoders.{name.removesuffix('.weight')}": shape for name, shape in encoder.items()}
    )


def _lora(
    unet: Shapes, clip: Shapes, encoders: Mapping[str, str], *, rank: int = RANK, strength: float = STRENGTH
) -> StateDict:
    """`encoders` says how the layers of each kind of CLIP begin in this family's files."""
    layers = {f"lora_unet_{_flat(name.removesuffix('.weight'))}": shape for name, shape in unet.items()}
    for name, shape in clip.items():
        found = CLIP_LAYERS.match(name)
        if found and found["kind"] in encoders:
            layers[f"{encoders[found['kind']]}_{_flat(found['layer'])}"] = shape
    return _pairs(layers, rank, strength)


def _pairs(layers: Mapping[str, torch.Size], rank: int = RANK, strength: float = STRENGTH) -> StateDict:
    pairs: dict[str, torch.Size] = {}
    for layer, (rows, columns, *kernel) in layers.items():
        pairs[f"{layer}.lora_down.weight"] = torch.Size((rank, columns, *kernel))
        pairs[f"{layer}.lora_up.weight"] = torch.Size((rows, rank, *kernel))
    alphas = {f"{layer}.alpha": torch.tensor(rank * strength, dtype=torch.float16) for layer in layers}
    return {**fill(pairs, len(layers), torch.float16), **alphas}


def _flat(name: str) -> str:
    return name.replace(".", "_")
