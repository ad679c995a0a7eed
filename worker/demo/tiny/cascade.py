"""Stable Cascade: stage C with text encoder, picture encoder and CLIP vision, stage B with the decoder of stage A.

Both stages are U-shaped stacks in which every sum is normalised per pixel. A signal's size survives that only beside
something constant, so the first convolution writes a large constant next to the noisy latent; level 0 and its skip
connection lead both around the random blocks, which may write a little into the latent's columns; and the
last convolution reads the latent back.
"""

import json
from pathlib import Path

import torch
from comfy import clip_vision, supported_models
from comfy.clip_model import CLIPVisionModelProjection
from comfy.ldm.cascade.stage_a import StageA
from comfy.ldm.cascade.stage_c_coder import StageC_coder
from comfy.ops import disable_weight_init
from comfy.supported_models_base import BASE

from .changes import SMALL_CASCADE_B, SMALL_CASCADE_C
from .checkpoint import clip_shapes, configuration, fuse, unet_shapes
from .vae import RANGE
from .weights import StateDict, fill, shapes_of, zeros

#: Size of the noisy latent beside the constant 1.
SIGNAL = 0.1
#: What the random blocks of the stages add to a predicted noise of size 1. Noise levels go up to 100.
DRIFT_C, DRIFT_B = 0.03, 0.06
#: How far queries and keys single tokens out. Without it four tokens of a picture drown among eighty of text.
SHARPNESS = 2.5
#: One row of a transposed convolution that doubles a picture smoothly.
BILINEAR = torch.tensor([0.25, 0.75, 0.75, 0.25])


def cascade_c_config() -> BASE:
    return configuration(supported_models.Stable_Cascade_C, {"stable_cascade_stage": "c", **SMALL_CASCADE_C})


def cascade_b_config() -> BASE:
    return configuration(supported_models.Stable_Cascade_B, {"stable_cascade_stage": "b", **SMALL_CASCADE_B})


def cascade_c() -> StateDict:
    config = cascade_c_config()
    unet = fill(unet_shapes(config), 90, torch.float16)
    _carry_latent(unet, DRIFT_C, beside=1)
    state = fuse(config, unet, fill(clip_shapes(config), 90, torch.float16), picture_encoder())
    return {**state, **vision(config)}


def vision(config: BASE) -> StateDict:
    """The CLIP vision model that a stage C file carries, in the sizes of the engine's tree."""
    sizes = json.loads(Path(clip_vision.__file__).with_name("clip_vision_config_vitl.json").read_text())
    module = CLIPVisionModelProjection(sizes, torch.float16, "meta", disable_weight_init)
    return fill(shapes_of(module, config.clip_vision_prefix), 91, torch.float16)


def cascade_b() -> StateDict:
    config = cascade_b_config()
    unet = fill(unet_shapes(config), 92, torch.float16)
    basis = _carry_latent(unet, DRIFT_B, beside=2)
    # Stage C's picture arrives at size 1: beside the constant, and out of the latent's columns.
    mapper = unet["effnet_mapper.2.weight"].flatten(1).float()
    unet["effnet_mapper.2.weight"] = (mapper - basis @ (basis.T @ mapper))[:, :, None, None].half()
    return fuse(config, unet, {}, picture_decoder(config.latent_format.scale_factor))


def _carry_latent(unet: StateDict, drift: float, beside: int) -> torch.Tensor:
    """`beside`: how many things of size 1 are there at the end. Returns an orthonormal basis of what is taken."""
    first = unet["embedding.1.weight"]
    width, channels = first.shape[:2]
    drawn = torch.randn(width, channels + 1, generator=torch.Generator().manual_seed(width)).float()
    # Normalisation takes the mean away, so nothing of it may be needed.
    basis, _ = torch.linalg.qr(torch.cat((torch.ones(width, 1), drawn), dim=1))
    columns = basis[:, 2:] * (width / channels) ** 0.5
    unet["embedding.1.weight"] = (SIGNAL * columns)[:, :, None, None].half()
    unet["embedding.1.bias"] = (basis[:, 1] * width**0.5).half()
    unet["clf.1.weight"] = (columns.T * (channels / width * beside**0.5 / SIGNAL))[:, :, None, None].half()

    top = max(int(name.split(".")[1]) for name in unet if name.startswith("up_blocks."))
    around = f"up_blocks.{top}.0.channelwise"
    for name, tensor in unet.items():
        level_0 = name.startswith(("down_blocks.0.", f"up_blocks.{top}."))
        if name.endswith((".to_q.weight", ".to_k.weight")):
            tensor.mul_(SHARPNESS)
        elif name.endswith(".gamma") or (level_0 and ".mapper" in name):
            tensor.zero_()
        elif level_0 and name.endswith((".channelwise.4.weight", ".out_proj.weight")):
            tensor.copy_(SIGNAL * drift * columns @ tensor[:channels].float())
    for name in [name for name in unet if name.startswith(f"up_upscalers.{top - 1}.") and name.endswith("weight")]:
        # A transposed convolution has its inputs first.
        turned = unet[name].shape[-1] == 2
        below = unet[name].float().transpose(0, 1) if turned else unet[name].float()
        below = SIGNAL * drift * torch.einsum("oc,cikl->oikl", columns, below[:channels])
        unet[name] = (below.transpose(0, 1) if turned else below).half()

    # A GELU of a, less the GELU of -a, is a: so an MLP lets its input through, here what comes by the skip connection.
    identity = torch.eye(width)
    unet[f"{around}.0.weight"][: 2 * width] = torch.cat(
        (torch.zeros(2 * width, width), torch.cat((identity, -identity))), dim=1
    )
    unet[f"{around}.4.weight"][:, : 2 * width] = torch.cat((identity, -identity), dim=1)
    return basis


def picture_encoder() -> StateDict:
    """EfficientNet of random weights; only its last layer is made to fit, by looking at what comes out."""
    module = StageC_coder()
    shapes = shapes_of(module)
    encoder = {name: shape for name, shape in shapes.items() if name.startswith("encoder.")}
    state = {**zeros(shapes, torch.float16), **fill(encoder, 93, torch.float16)}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros(tensor.shape, dtype=torch.int64)
    module.load_state_dict({name: tensor for name, tensor in state.items() if name in encoder}, strict=False)
    with torch.inference_mode():
        pictures = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(93)) * 2 - 1
        features = module.eval().encoder.mapper[0](module.encoder.backbone(pictures))
    spread, mean = torch.std_mean(features, (0, 2, 3))
    # Too little gets through forty random layers for the last normalisation, which never divides by less than 0.003.
    state["encoder.mapper.0.weight"] /= spread[:, None, None, None]
    state["encoder.mapper.1.running_mean"] = mean / spread
    return state


def picture_decoder(scale_factor: float) -> StateDict:
    """Stage A, decoding as vae.py does: the first three latent channels are the colours."""
    shapes = shapes_of(StageA())
    state = zeros(shapes, torch.float32)
    widen = next(
        int(name.split(".")[1]) for name in shapes if name.startswith("up_blocks.") and shapes[name][-1:] == (4,)
    )
    names = ("up_blocks.0.0.weight", f"up_blocks.{widen}.weight", "out_block.0.weight", "out_block.0.bias")
    state |= {name: torch.zeros(shapes[name]) for name in names}
    from_latent, enlarge, to_pixels, grey = (state[name] for name in names)
    for colour in range(3):
        from_latent[colour, colour] = RANGE * scale_factor
        enlarge[colour, colour] = torch.outer(BILINEAR, BILINEAR)
        to_pixels[4 * colour : 4 * colour + 4, colour] = 1
    grey.fill_(0.5)
    return state
