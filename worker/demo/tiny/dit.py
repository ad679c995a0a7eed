"""Flux, Qwen-Image and Z-Image with as few blocks as the engine takes for them.

With their heads cut down (see changes.py) a block has a few million parameters instead of 180 to 340; most matrices are
fp8, as in the files owners use.

As in sd.py, the noisy latent is led around the random weights: the last layer reads it back from the columns that the
first layer wrote, and a block writes to these columns only.
"""

from collections.abc import Sequence

import torch
from comfy import supported_models
from comfy.ldm.wan.vae import WanVAE
from comfy.supported_models_base import BASE

from .checkpoint import check_detection, clip_shapes, configuration, fuse, newer_flux_fields, unet_shapes
from .vae import autoencoder
from .weights import StateDict, fill, shapes_of

#: 16 latent channels of a 2x2 patch.
PATCH = 64
#: How much a block adds to what the last layer reads; the latent's noise has size 1.
DRIFT = 0.8
#: What opens the gates of a block.
OPEN = 1.0
#: How far attention picks single tokens. Without it the few tokens of a prompt drown among those around them.
SHARPNESS = 2.0

FP8 = torch.float8_e4m3fn

SHAPE_FLUX = {
    "image_model": "flux",
    "axes_dim": [16, 56, 56],
    "num_heads": 4,
    "mlp_ratio": 4.0,
    "theta": 10000,
    "out_channels": 16,
    "qkv_bias": True,
    "in_channels": 16,
    "hidden_size": 512,
    "context_in_dim": 64,
    "patch_size": 2,
    "vec_in_dim": 768,
    "depth": 1,
    "depth_single_blocks": 1,
}
SHAPE_FLUX |= newer_flux_fields()
SHAPE_QWEN = {"image_model": "qwen_image", "in_channels": PATCH, "num_layers": 1}
SHAPE_Z_IMAGE = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 512,
    "cap_feat_dim": 64,
    "n_layers": 1,
    "qk_norm": True,
    "n_heads": 4,
    "n_kv_heads": 4,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8.0 / 3.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
#: First width of Qwen-Image's autoencoder, which is the video model Wan's. 96 in the real one.
QWEN_VAE_WIDTH = 16


def schnell_config() -> BASE:
    return configuration(supported_models.FluxSchnell, {**SHAPE_FLUX, "guidance_embed": False})


def dev_config() -> BASE:
    return configuration(supported_models.Flux, {**SHAPE_FLUX, "guidance_embed": True})


def qwen_config() -> BASE:
    return configuration(supported_models.QwenImage, SHAPE_QWEN)


def z_image_config() -> BASE:
    return configuration(supported_models.ZImage, SHAPE_Z_IMAGE)


def flux_schnell() -> StateDict:
    return _fused_flux(schnell_config(), seed=40)


def flux_dev() -> StateDict:
    return _fused_flux(dev_config(), seed=41)


def flux_unet() -> StateDict:
    return _checked(schnell_config(), _flux_transformer(schnell_config(), seed=42))


def clip_l() -> StateDict:
    return _text_encoder(schnell_config(), "clip_l.transformer.")


def t5xxl() -> StateDict:
    return _text_encoder(schnell_config(), "t5xxl.transformer.")


def flux_vae() -> StateDict:
    return autoencoder(schnell_config().latent_format)


def qwen_unet() -> StateDict:
    config = qwen_config()
    unet = fill(unet_shapes(config), 50, torch.float16, wide=FP8)
    block = "transformer_blocks.0"
    write_to_columns(unet, "img_in.weight", (f"{block}.attn.to_out.0.weight", f"{block}.img_mlp.net.2.weight"))
    _open_gates(unet, f"{block}.img_mod.1.bias", pieces=6, gates=(2, 5))
    read_from_columns(unet, "img_in.weight", "proj_out.weight")
    return _checked(config, unet)


def qwen_text_encoder() -> StateDict:
    return _text_encoder(qwen_config(), "qwen25_7b.transformer.")


def qwen_vae() -> StateDict:
    module = WanVAE(
        dim=QWEN_VAE_WIDTH,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        temperal_downsample=[False, True, True],
    )
    return fill(shapes_of(module), 50, torch.float16)


def z_image_unet() -> StateDict:
    config = z_image_config()
    unet = fill(unet_shapes(config), 60, torch.float16, wide=FP8)
    for block in ("noise_refiner.0", "layers.0"):
        write_to_columns(
            unet, "x_embedder.weight", (f"{block}.attention.out.weight", f"{block}.feed_forward.w2.weight")
        )
        _open_gates(unet, f"{block}.adaLN_modulation.0.bias", pieces=4, gates=(1, 3))
    for side in ("q", "k"):
        unet[f"layers.0.attention.{side}_norm.weight"] *= SHARPNESS
    read_from_columns(unet, "x_embedder.weight", "final_layer.linear.weight", sign=-1)
    return _checked(config, unet)


def z_image_text_encoder() -> StateDict:
    return _text_encoder(z_image_config(), "qwen3_4b.transformer.")


def _fused_flux(config: BASE, seed: int) -> StateDict:
    clip = fill(clip_shapes(config), seed, torch.float16, wide=FP8)
    return fuse(config, _flux_transformer(config, seed), clip, autoencoder(config.latent_format))


def _flux_transformer(config: BASE, seed: int) -> StateDict:
    unet = fill(unet_shapes(config), seed, torch.float16, wide=FP8)
    double, single = "double_blocks.0", "single_blocks.0"
    writers = (f"{double}.img_attn.proj.weight", f"{double}.img_mlp.2.weight", f"{single}.linear2.weight")
    write_to_columns(unet, "img_in.weight", writers)
    _open_gates(unet, f"{double}.img_mod.lin.bias", pieces=6, gates=(2, 5))
    _open_gates(unet, f"{single}.modulation.lin.bias", pieces=3, gates=(2,))
    read_from_columns(unet, "img_in.weight", "final_layer.linear.weight")
    return unet


def _text_encoder(config: BASE, prefix: str) -> StateDict:
    shapes = {name: shape for name, shape in clip_shapes(config).items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): tensor for name, tensor in fill(shapes, 42, torch.float16, wide=FP8).items()}


def _checked(config: BASE, unet: StateDict) -> StateDict:
    check_detection(config, unet, "")
    return unet


def write_to_columns(unet: StateDict, first: str, writers: Sequence[str]) -> None:
    """Let the last matrices of a block write what the first layer could have written."""
    columns = unet[first].float()
    for name in writers:
        unet[name] = (columns @ unet[name][:PATCH].float() * DRIFT).to(FP8)


def _open_gates(unet: StateDict, bias: str, pieces: int, gates: Sequence[int]) -> None:
    """A block's modulation is shifts, scales and gates in a row; gates of random sign would let nothing through."""
    modulation = unet[bias].view(pieces, -1)
    for gate in gates:
        modulation[gate] = OPEN


def read_from_columns(unet: StateDict, first: str, last: str, sign: int = 1) -> None:
    """Make the last layer the first one's inverse; the normalisation before it sets the size. Too small for fp8."""
    columns = unet[first].float()
    unet[last] = (columns.T * (sign * PATCH / len(columns))).to(torch.float16)
