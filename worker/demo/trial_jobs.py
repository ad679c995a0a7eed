"""What a trial of an engine renders: jobs over all families and kinds of work, as data."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from PIL import Image

from worker.demo.tiny.recipes import TINY_LORAS, TINY_MODELS

#: Families' models whose sizes need no change in ComfyUI's code, so that any version loads them.
IN_ANY_VERSION = frozenset(model.name for model in TINY_MODELS if "diffusion" in model.baseline.replace("_", " "))
SD1, SDXL, FLUX, CASCADE = "Tiny SD1.5", "Tiny SDXL", "Tiny Flux Schnell", "Tiny Stable Cascade"
INPAINTING = "Tiny SD1.5 Inpainting"
#: Payload of every job, unless it says otherwise.
PAYLOAD: Mapping[str, Any] = {
    "prompt": "a red fox in the snow ### blurry", "width": 64, "height": 64, "ddim_steps": 2, "n_iter": 1,
    "sampler_name": "k_euler", "cfg_scale": 5.0, "karras": True, "clip_skip": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TrialJob:
    """A job: a model, and its payload beside the usual one. `picture`: it starts from one, `masked` or not."""

    name: str
    model: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    picture: bool = False
    masked: bool = False
    #: baseline whose LoRA is loaded; empty: none
    lora: str = ""
    #: too large for a processor to be done more than once: it is compared, not timed
    once: bool = False

    @property
    def lora_file(self) -> str:
        """The LoRA as ComfyUI lists it; empty for none."""
        return next((each.file.file_name for each in TINY_LORAS if each.baseline == self.lora), "")


def trial_jobs() -> Iterator[TrialJob]:
    """The jobs of a trial, those of one model after one another."""
    for model in TINY_MODELS:
        side = 256 if model.name == CASCADE else 64
        yield TrialJob(f"{model.name}: text", model.name, {"width": side, "height": side})
        if model.name in _MORE:
            yield from _MORE[model.name]


_MORE = {
    SD1: (
        TrialJob("Tiny SD1.5: picture", SD1, {"denoising_strength": 0.6}, picture=True),
        TrialJob(
            "Tiny SD1.5: hires fix", SD1, {"hires_fix": True, "width": 576, "height": 576, "ddim_steps": 1}, once=True
        ),
        TrialJob("Tiny SD1.5: LoRA", SD1, lora="stable diffusion 1"),
        TrialJob("Tiny SD1.5: ControlNet", SD1, {"control_type": "canny"}, picture=True),
        TrialJob("Tiny SD1.5: upscaler", SD1, {"post_processing": ["RealESRGAN_x2plus"]}),
        TrialJob("Tiny SD1.5: face restorer", SD1, {"post_processing": ["GFPGAN"]}),
        TrialJob("Tiny SD1.5: tiling", SD1, {"tiling": True}),
        TrialJob("Tiny SD1.5: transparent", SD1, {"transparent": True}),
        TrialJob("Tiny SD1.5: batch", SD1, {"n_iter": 2}),
        *(
            TrialJob(f"Tiny SD1.5: {sampler}", SD1, {"sampler_name": sampler, "ddim_steps": 4})
            for sampler in ("k_dpmpp_2m", "k_dpmpp_sde", "k_heun", "k_lms")
        ),
        # One step, after which no noise is drawn: on a processor newer versions draw that from another seed.
        TrialJob("Tiny SD1.5: lcm", SD1, {"sampler_name": "lcm", "ddim_steps": 1}),
    ),
    INPAINTING: (TrialJob("Tiny SD1.5 Inpainting: mask", INPAINTING, picture=True, masked=True),),
    SDXL: (
        TrialJob("Tiny SDXL: picture", SDXL, {"denoising_strength": 0.6}, picture=True),
        TrialJob("Tiny SDXL: LoRA", SDXL, lora="stable_diffusion_xl"),
        TrialJob("Tiny SDXL: transparent", SDXL, {"transparent": True}),
    ),
    FLUX: (TrialJob("Tiny Flux Schnell: picture", FLUX, {"denoising_strength": 0.8}, picture=True),),
}


@cache
def trial_picture(*, masked: bool) -> bytes:
    """A PNG of two colours; its right half is to be repainted where `masked`."""
    picture = Image.new("RGB", (64, 64), "brown")
    picture.paste("navy", (32, 0, 64, 64))
    if masked:
        alpha = Image.new("L", picture.size, 255)
        alpha.paste(0, (32, 0, 64, 64))
        picture.putalpha(alpha)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
