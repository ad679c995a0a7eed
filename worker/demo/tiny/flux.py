"""Flux with one double block, fused in one file or split as ComfyUI's own examples split it.

Width, heads and the ratio of the MLP are fixed by the engine's detection, so one block is 340 million parameters;
there are no single blocks. Most matrices are fp8, as in the files owners use.

As in sd.py, the noisy latent is led around the random weights: the last layer reads it back from the columns that the
first layer wrote, and the block writes to these columns only.
"""

import torch
from comfy import supported_models
from comfy.supported_models_base import BASE

from .checkpoint import check_detection, clip_shapes, configuration, fuse, unet_shapes
from .vae import autoencoder
from .weights import StateDict, fill

WIDTH = 3072
#: 16 latent channels of a 2x2 patch.
PATCH = 64
#: How much the block adds to what the last layer reads; the latent's noise has size 1.
DRIFT = 0.8
#: Pieces of a double block's modulation that scale what attention and MLP add: gates, of shift, scale, gate, twice.
GATES = (2, 5)

FP8 = torch.float8_e4m3fn

SHAPE = {
    "image_model": "flux",
    "axes_dim": [16, 56, 56],
    "num_heads": 24,
    "mlp_ratio": 4.0,
    "theta": 10000,
    "out_channels": 16,
    "qkv_bias": True,
    "in_channels": 16,
    "hidden_size": WIDTH,
    "context_in_dim": 64,
    "patch_size": 2,
    "vec_in_dim": 768,
    "depth": 1,
    "depth_single_blocks": 0,
}


def schnell_config() -> BASE:
    return configuration(supported_models.FluxSchnell, {**SHAPE, "guidance_embed": False})


def dev_config() -> BASE:
    return configuration(supported_models.Flux, {**SHAPE, "guidance_embed": True})


def flux_schnell() -> StateDict:
    return _fused(schnell_config(), seed=40)


def flux_dev() -> StateDict:
    return _fused(dev_config(), seed=41)


def flux_unet() -> StateDict:
    config = schnell_config()
    unet = _transformer(config, seed=42)
    check_detection(config, unet, "")
    return unet


def clip_l() -> StateDict:
    return _text_encoder("clip_l.transformer.")


def t5xxl() -> StateDict:
    return _text_encoder("t5xxl.transformer.")


def flux_vae() -> StateDict:
    return autoencoder(schnell_config().latent_format)


def _fused(config: BASE, seed: int) -> StateDict:
    clip = fill(clip_shapes(config), seed, torch.float16, wide=FP8)
    return fuse(config, _transformer(config, seed), clip, autoencoder(config.latent_format))


def _text_encoder(prefix: str) -> StateDict:
    shapes = {name: shape for name, shape in clip_shapes(schnell_config()).items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): tensor for name, tensor in fill(shapes, 42, torch.float16, wide=FP8).items()}


def _transformer(config: BASE, seed: int) -> StateDict:
    unet = fill(unet_shapes(config), seed, torch.float16, wide=FP8)
    columns = unet["img_in.weight"].float()
    for name in ("double_blocks.0.img_attn.proj.weight", "double_blocks.0.img_mlp.2.weight"):
        unet[name] = (columns @ unet[name][:PATCH].float() * DRIFT).to(FP8)
    gates = unet["double_blocks.0.img_mod.lin.bias"].view(-1, WIDTH)
    for gate in GATES:
        gates[gate] = 1
    # Too small for fp8's range.
    unet["final_layer.linear.weight"] = (columns.T * (PATCH / WIDTH)).to(torch.float16)
    return unet
