"""Stable Diffusion 1, 2 and XL with a narrow UNet.

A UNet of random weights that were only random would leave nothing of a source picture and drift out of range. So 40
of the 320 channels are set by hand: they carry the noisy latent around everything else, and the final normalisation
makes of it the noise a perfect model of grey pictures would predict. The random rest adds what depends on
prompt, seed and step.
"""

from collections.abc import Iterable

import torch
from comfy import supported_models
from comfy.supported_models_base import BASE

from .checkpoint import clip_shapes, configuration, fuse, unet_shapes
from .vae import autoencoder
from .weights import StateDict, fill

#: Channels of every level; the smallest the families allow.
WIDTH = 320
#: Group normalisation works on 10 channels at a time: one group per latent channel carries the latent.
GROUP = WIDTH // 32
#: Size of what the random channels predict, beside the 1.0 of the noise itself.
DRIFT = 0.12
#: Latent, mask, and the latent of the masked picture.
INPAINTING_CHANNELS = 4 + 1 + 4

SHAPE_SD15 = {
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
}
#: As many attention layers as the real one, in the same places: what is patched layer by layer finds them all.
SHAPE_SD15_DEEP = {
    **SHAPE_SD15,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 1, 1, 1],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
}
SHAPE_SD2 = {**SHAPE_SD15, "context_dim": 1024, "use_linear_in_transformer": True}
#: Only with twelve output blocks, the last one with a transformer, can the engine tell v-prediction. The other
#: transformers are where SD2's are, so that one LoRA fits both.
SHAPE_SD2_V = {
    **SHAPE_SD2,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 1, 1, 1],
    "transformer_depth": [0, 0, 1, 0, 0, 0, 0, 0],
    "transformer_depth_output": [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
}
#: The input depths name the family; the output may go without transformers.
SHAPE_SDXL = {
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [0, 2, 5],
    "transformer_depth_output": [0, 0, 0, 0, 0, 0],
    "transformer_depth_middle": -1,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
}
EVERY_UNET = {
    "use_checkpoint": False,
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "adm_in_channels": None,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": WIDTH,
    "use_temporal_resblock": False,
    "use_temporal_attention": False,
}


def sd15_config(in_channels: int = 4) -> BASE:
    return configuration(supported_models.SD15, {**EVERY_UNET, **SHAPE_SD15, "in_channels": in_channels})


def sd15_deep_config() -> BASE:
    return configuration(supported_models.SD15, {**EVERY_UNET, **SHAPE_SD15_DEEP})


def sd2_config() -> BASE:
    return configuration(supported_models.SD20, {**EVERY_UNET, **SHAPE_SD2})


def sd2_v_config() -> BASE:
    return configuration(supported_models.SD20, {**EVERY_UNET, **SHAPE_SD2_V})


def sdxl_config() -> BASE:
    return configuration(supported_models.KOALA_700M, {**EVERY_UNET, **SHAPE_SDXL})


def sd15() -> StateDict:
    return _checkpoint(sd15_config(), seed=15)


def sd15_b() -> StateDict:
    return _checkpoint(sd15_config(), seed=16)


def sd15_deep() -> StateDict:
    return _checkpoint(sd15_deep_config(), seed=17)


def sd15_inpainting() -> StateDict:
    return _checkpoint(sd15_config(in_channels=INPAINTING_CHANNELS), seed=18)


def sd2_512() -> StateDict:
    return _checkpoint(sd2_config(), seed=20)


def sd2_768() -> StateDict:
    state = _checkpoint(sd2_v_config(), seed=21)
    # The engine takes a spread of these biases as the sign of v-prediction.
    sign = state["model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"]
    sign.copy_(torch.where(torch.arange(WIDTH) % 2 == 0, 0.2, -0.2))
    return state


def sdxl() -> StateDict:
    return _checkpoint(sdxl_config(), seed=30)


def last_output_block(names: Iterable[str]) -> str:
    """How the names of a UNet's last block begin."""
    last = max(int(name.split(".")[1]) for name in names if name.startswith("output_blocks."))
    return f"output_blocks.{last}."


def _checkpoint(config: BASE, seed: int) -> StateDict:
    unet = fill(unet_shapes(config), seed, torch.float16)
    _carry_latent(unet)
    clip = fill(clip_shapes(config), seed, torch.float16)
    return fuse(config, unet, _halve_embeddings(clip), autoencoder(config.latent_format))


def _halve_embeddings(clip: StateDict) -> StateDict:
    """Most of a small text encoder is its vocabulary: fp8 halves the file, and the engine widens it on loading."""
    return {
        name: tensor.to(torch.float8_e4m3fn) if "token_embedding" in name else tensor for name, tensor in clip.items()
    }


def _carry_latent(unet: StateDict) -> None:
    """Let one group of channels per latent channel go from the first to the last convolution as +z, -z, +z, ...

    After normalisation and SiLU the difference of a pair is the latent again, at unit deviation.
    """
    last = last_output_block(unet)
    first_in = unet["input_blocks.0.0.weight"]
    around = unet[f"{last}0.skip_connection.weight"]
    out = unet["out.2.weight"]
    carried = 4 * GROUP
    first_in[:carried] = 0
    around[:carried] = 0
    unet[f"{last}0.out_layers.3.weight"][:carried] = 0
    # SiLU halves a signal and more; 1/fan-in leaves the sum of the others at about 0.6.
    out *= DRIFT / 0.6
    out[:, :carried] = 0
    for channel in range(carried):
        latent, sign = channel // GROUP, 1 - 2 * (channel % 2)
        first_in[channel, latent, 1, 1] = sign
        around[channel, WIDTH + channel, 0, 0] = 1
        out[latent, channel, 1, 1] = sign * 2 / GROUP
