"""Stable Diffusion 3.5 with two blocks and its two CLIP encoders, in one file: an example of what an owner adds.

As in dit.py, the last layer reads the noisy latent back from the columns that the first layer wrote.
"""

import torch
from comfy import supported_models
from comfy.supported_models_base import BASE

from .checkpoint import configuration, fuse, unet_shapes
from .dit import FP8
from .vae import autoencoder
from .weights import StateDict, fill, shapes_of

DEPTH = 2
#: Fixed by ComfyUI: 64 for each block.
WIDTH = 64 * DEPTH
#: Side of the largest picture, in patches of 16 pixels.
LARGEST = 64
#: Pads the texts of both encoders to the width of the third, which most workers do without.
TEXT_WIDTH = 4096
CLIP_KEYS = {f"text_encoders.clip_{kind}.transformer.text_model.final_layer_norm.weight": None for kind in "lg"}
SHAPE = {
    "in_channels": 16,
    "patch_size": 2,
    "out_channels": 16,
    "depth": DEPTH,
    "input_size": None,
    "adm_in_channels": 2048,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": TEXT_WIDTH, "out_features": WIDTH},
    },
    "num_patches": LARGEST**2,
    "pos_embed_max_size": LARGEST,
    "qk_norm": "rms",
    "pos_embed_scaling_factor": None,
    "x_block_self_attn_layers": [],
}


def sd35_config() -> BASE:
    return configuration(supported_models.SD3, SHAPE)


def sd35() -> StateDict:
    config = sd35_config()
    unet = fill(unet_shapes(config), 80, torch.float16)
    first = unet["x_embedder.proj.weight"].float().reshape(WIDTH, -1)
    # Channel by channel in the first layer, pixel by pixel in the last.
    order = torch.arange(first.shape[1]).view(16, 4).T.reshape(-1)
    unet["final_layer.linear.weight"] = (first.T[order] * first.shape[1] / WIDTH).to(torch.float16)
    clip = fill(
        shapes_of(config.clip_target(CLIP_KEYS).clip(device="meta", dtype=torch.float16)), 80, torch.float16, wide=FP8
    )
    return fuse(config, unet, clip, autoencoder(config.latent_format))
