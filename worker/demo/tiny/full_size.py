"""Models of the published sizes with random weights: what a card is measured with where no real weights are at hand.

Time and memory depend on shapes and types of tensors, not on their values. Shapes come from the engine's own
classes in an unmodified ComfyUI tree. Weights keep a signal's size from layer to layer, so that nothing becomes
infinite in half precision; the pictures are noise.
"""

from typing import Any

import torch
from comfy import supported_models
from comfy.latent_formats import LatentFormat
from comfy.ldm.models.autoencoder import AutoencoderKL, AutoencodingEngine
from comfy.supported_models_base import BASE

from . import cascade, control, lora, upscale
from .checkpoint import clip_shapes, configuration, fuse, newer_flux_fields, unet_shapes
from .sd import EVERY_UNET
from .weights import StateDict, fill, shapes_of

FP8 = torch.float8_e4m3fn

#: The configurations that the published checkpoints are detected as.
SHAPE_SD15 = {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
}
SHAPE_SDXL = {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
}
SHAPE_FLUX = {
    "image_model": "flux",
    "axes_dim": [16, 56, 56],
    "num_heads": 24,
    "mlp_ratio": 4.0,
    "theta": 10000,
    "out_channels": 16,
    "qkv_bias": True,
    "in_channels": 16,
    "hidden_size": 3072,
    "context_in_dim": 4096,
    "patch_size": 2,
    "vec_in_dim": 768,
    "depth": 19,
    "depth_single_blocks": 38,
    "guidance_embed": False,
}
SHAPE_FLUX |= newer_flux_fields()
SHAPE_CASCADE_C = {"stable_cascade_stage": "c", "c_cond": 2048}
SHAPE_CASCADE_B = {
    "stable_cascade_stage": "b",
    "c_hidden": [320, 640, 1280, 1280],
    "nhead": [-1, -1, 20, 20],
    "blocks": [[2, 6, 28, 6], [6, 28, 6, 2]],
    "block_repeat": [[1, 1, 1, 1], [3, 3, 2, 2]],
}
#: The autoencoder of Stable Diffusion and of Flux, but for the number of latent channels.
SHAPE_VAE: dict[str, Any] = {
    "double_z": True,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
#: Filters and residual blocks of RealESRGAN_x4plus.
UPSCALER_FILTERS, UPSCALER_BLOCKS = 64, 23
#: Rank of the LoRAs most requesters name.
LORA_RANK = 32
#: A small change: a picture with the LoRA stays a picture.
LORA_STRENGTH = 0.1


def sd15_config() -> BASE:
    return configuration(supported_models.SD15, {**EVERY_UNET, **SHAPE_SD15})


def sdxl_config() -> BASE:
    return configuration(supported_models.SDXL, {**EVERY_UNET, **SHAPE_SDXL})


def flux_config() -> BASE:
    return configuration(supported_models.FluxSchnell, SHAPE_FLUX)


def cascade_c_config() -> BASE:
    return configuration(supported_models.Stable_Cascade_C, SHAPE_CASCADE_C)


def cascade_b_config() -> BASE:
    return configuration(supported_models.Stable_Cascade_B, SHAPE_CASCADE_B)


def sd15() -> StateDict:
    return _checkpoint(sd15_config(), seed=115)


def sd15_b() -> StateDict:
    return _checkpoint(sd15_config(), seed=116)


def sdxl() -> StateDict:
    return _checkpoint(sdxl_config(), seed=130)


def flux_schnell() -> StateDict:
    """Transformer and T5 in fp8, as the file that owners use."""
    return _checkpoint(flux_config(), seed=140, wide=FP8)


def cascade_c() -> StateDict:
    config = cascade_c_config()
    unet = fill(unet_shapes(config), 190, torch.bfloat16)
    state = fuse(config, unet, fill(clip_shapes(config), 190, torch.bfloat16), cascade.picture_encoder())
    return {**state, **cascade.vision(config)}


def cascade_b() -> StateDict:
    config = cascade_b_config()
    unet = fill(unet_shapes(config), 192, torch.bfloat16)
    return fuse(config, unet, {}, cascade.picture_decoder(config.latent_format.scale_factor))


def sd15_control() -> StateDict:
    return control.ordinary(sd15_config(), seed=171)


def sd15_lora() -> StateDict:
    return lora.of_diffusers(sd15_config(), {"l": "lora_te"}, rank=LORA_RANK, strength=LORA_STRENGTH)


def sdxl_lora() -> StateDict:
    encoders = {"l": "lora_te1", "g": "lora_te2"}
    return lora.of_own_names(sdxl_config(), encoders, rank=LORA_RANK, strength=LORA_STRENGTH)


def realesrgan_x4() -> StateDict:
    return upscale.realesrgan_x4(filters=UPSCALER_FILTERS, blocks=UPSCALER_BLOCKS)


def _checkpoint(config: BASE, seed: int, wide: torch.dtype | None = None) -> StateDict:
    unet = fill(unet_shapes(config), seed, torch.float16, wide=wide)
    clip = fill(clip_shapes(config), seed, torch.float16, wide=wide)
    return fuse(config, unet, clip, autoencoder(config.latent_format))


def autoencoder(latent_format: LatentFormat) -> StateDict:
    """The full autoencoder: with 4 latent channels Stable Diffusion's, with more of them Flux's."""
    channels = latent_format.latent_channels
    shape = {**SHAPE_VAE, "z_channels": channels}
    module: torch.nn.Module
    with torch.device("meta"):
        if channels == 4:
            module = AutoencoderKL(ddconfig=shape, embed_dim=channels)
        else:
            blocks = "comfy.ldm.modules.diffusionmodules.model"
            module = AutoencodingEngine(
                regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
                encoder_config={"target": f"{blocks}.Encoder", "params": shape},
                decoder_config={"target": f"{blocks}.Decoder", "params": shape},
            )
    return fill(shapes_of(module), 100 + channels, torch.float16)
