"""Anima and Krea 2 Turbo with one block each, for a ComfyUI that has them.

As in dit.py, the noisy latent is led around the random weights: the last layer reads it back from the columns that the
first layer wrote.
"""

import torch
from comfy import supported_models
from comfy.supported_models_base import BASE

from .changes import ANIMA_TEXT_WIDTH, KREA2_TEXT_LAYERS, KREA2_TEXT_WIDTH
from .checkpoint import check_detection, clip_shapes, configuration, unet_shapes
from .dit import FP8, PATCH, read_from_columns, write_to_columns
from .weights import StateDict, fill

SHAPE_ANIMA = {
    "image_model": "anima",
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 256,
    "concat_padding_mask": True,
    "crossattn_emb_channels": ANIMA_TEXT_WIDTH,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop",
    "min_fps": 1,
    "max_fps": 30,
    "use_adaln_lora": True,
    "adaln_lora_dim": 256,
    "num_blocks": 1,
    "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
    "rope_t_extrapolation_ratio": 1.0,
    "extra_h_extrapolation_ratio": 1.0,
    "extra_w_extrapolation_ratio": 1.0,
    "extra_t_extrapolation_ratio": 1.0,
    "rope_enable_fps_modulation": False,
}
SHAPE_KREA2 = {
    "image_model": "krea2",
    "features": 256,
    "channels": 16,
    "patch": 2,
    "layers": 1,
    "heads": 2,
    "kvheads": 1,
    "txtlayers": KREA2_TEXT_LAYERS,
    "txtdim": KREA2_TEXT_WIDTH,
}
#: How much the words weigh in what a block adds. Few tokens would drown among those of the picture.
LOUDNESS = 4.0


def anima_config() -> BASE:
    return configuration(supported_models.Anima, SHAPE_ANIMA)


def krea2_config() -> BASE:
    return configuration(supported_models.Krea2, SHAPE_KREA2)


def anima_unet() -> StateDict:
    config = anima_config()
    unet = fill(unet_shapes(config), 70, torch.float16, wide=FP8)
    first, last = "x_embedder.proj.1.weight", "final_layer.linear.weight"
    # The mask that comes with the latent is no part of the picture: its columns are the last ones.
    picture = unet[first].float()[:, :PATCH]
    # Channel by channel in the first layer, pixel by pixel in the last.
    order = torch.arange(PATCH).view(16, 4).T.reshape(-1)
    unet[last] = (picture.T[order] / len(picture) * PATCH).to(torch.float16)
    for name in ("self_attn.output_proj", "cross_attn.output_proj", "mlp.layer2"):
        unet[f"blocks.0.{name}.weight"] = (unet[f"blocks.0.{name}.weight"].float() * LOUDNESS).to(FP8)
    for name in ("final_layer.adaln_modulation.2.weight", "t_embedder.1.linear_2.weight"):
        unet[name] = (unet[name].float() / 8).to(FP8)
    check_detection(config, unet, "")
    return unet


def anima_text_encoder() -> StateDict:
    return _text_encoder(anima_config(), "qwen3_06b.transformer.")


def krea2_unet() -> StateDict:
    config = krea2_config()
    unet = fill(unet_shapes(config), 71, torch.float16, wide=FP8)
    write_to_columns(unet, "first.weight", ("blocks.0.attn.wo.weight", "blocks.0.mlp.down.weight"))
    read_from_columns(unet, "first.weight", "last.linear.weight")
    check_detection(config, unet, "")
    return unet


def krea2_text_encoder() -> StateDict:
    """Named as in the published file: the language model and the eye below one module."""
    state = _text_encoder(krea2_config(), "qwen3vl_4b.transformer.")
    below = {"model.": "model.language_model.", "visual.": "model.visual."}
    return {
        next(new + name.removeprefix(old) for old, new in below.items() if name.startswith(old)): tensor
        for name, tensor in state.items()
    }


def _text_encoder(config: BASE, prefix: str) -> StateDict:
    shapes = {name: shape for name, shape in clip_shapes(config).items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): tensor for name, tensor in fill(shapes, 43, torch.float16, wide=FP8).items()}
