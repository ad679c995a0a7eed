"""What is made, as data: models by their Horde name, their files, and the files that serve any of them.

Read by the supervisor (the demo's model folder, engine tests) and by the builder, so it imports nothing but the
standard library. Paths are relative to the models folder, whose layout is the one owners have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

#: Every folder of a models folder, whether or not something tiny goes into it.
MODEL_FOLDERS = (
    "clip",
    "codeformer",
    "compvis",
    "controlnet",
    "esrgan",
    "gfpgan",
    "lora",
    "miscellaneous",
    "text_encoders",
    "ti",
    "vae",
)


class Purpose(str, Enum):
    """What a file is to its model. The values of a model's own files are the model reference's `file_type`."""

    CHECKPOINT = "ckpt"
    UNET = "unet"
    VAE = "vae"
    TEXT_ENCODERS = "text_encoders"
    LORA = "lora"


@dataclass(frozen=True)
class TinyFile:
    """One file to make. `name` is unique, is what the builder is asked for, and a function in module `made_by`."""

    name: str
    made_by: str
    path: str
    purpose: Purpose = Purpose.CHECKPOINT

    @property
    def folder(self) -> str:
        return self.path.split("/")[0]

    @property
    def file_name(self) -> str:
        return self.path.split("/")[-1]


@dataclass(frozen=True)
class TinyModel:
    """A model as the Horde would list it. `baseline` is spelled as the model reference (version 1) spells it."""

    name: str
    baseline: str
    files: tuple[TinyFile, ...]
    inpainting: bool = False


@dataclass(frozen=True)
class TinyAddition:
    """A LoRA as a job names it: `name`, or `version_id` with `is_version`. It fits models of `baseline` only."""

    name: str
    version_id: int
    baseline: str
    file: TinyFile


def _lora(family: str, version_id: int, baseline: str) -> TinyAddition:
    file = TinyFile(f"{family}_lora", "lora", f"lora/tiny_{family}_{version_id}.safetensors", Purpose.LORA)
    return TinyAddition(f"tiny_{family}", version_id, baseline, file)


FLUX_CLIP_L = TinyFile("clip_l", "flux", "text_encoders/tiny_clip_l.safetensors", Purpose.TEXT_ENCODERS)
FLUX_T5 = TinyFile("t5xxl", "flux", "text_encoders/tiny_t5xxl_fp8_e4m3fn.safetensors", Purpose.TEXT_ENCODERS)
FLUX_VAE = TinyFile("flux_vae", "flux", "vae/tiny_ae.safetensors", Purpose.VAE)

TINY_MODELS = (
    TinyModel("Tiny SD1.5", "stable diffusion 1", (TinyFile("sd15", "sd", "compvis/tiny_sd15.safetensors"),)),
    TinyModel("Tiny SD1.5 B", "stable diffusion 1", (TinyFile("sd15_b", "sd", "compvis/tiny_sd15_b.safetensors"),)),
    TinyModel("Tiny SD2 512", "stable diffusion 2", (TinyFile("sd2_512", "sd", "compvis/tiny_sd2_512.safetensors"),)),
    TinyModel("Tiny SD2 768", "stable diffusion 2", (TinyFile("sd2_768", "sd", "compvis/tiny_sd2_768.safetensors"),)),
    TinyModel("Tiny SDXL", "stable_diffusion_xl", (TinyFile("sdxl", "sd", "compvis/tiny_sdxl.safetensors"),)),
    TinyModel(
        "Tiny Flux Schnell", "flux_1", (TinyFile("flux_schnell", "flux", "compvis/tiny_flux_schnell_fp8.safetensors"),)
    ),
    TinyModel("Tiny Flux Dev", "flux_1", (TinyFile("flux_dev", "flux", "compvis/tiny_flux_dev_fp8.safetensors"),)),
    TinyModel(
        "Tiny Flux Split",
        "flux_1",
        (
            TinyFile("flux_unet", "flux", "compvis/tiny_flux_unet_fp8.safetensors", Purpose.UNET),
            FLUX_CLIP_L,
            FLUX_T5,
            FLUX_VAE,
        ),
    ),
)

TINY_LORAS = (
    _lora("sd15", 150001, "stable diffusion 1"),
    _lora("sd2", 200001, "stable diffusion 2"),
    _lora("sdxl", 300001, "stable_diffusion_xl"),
    _lora("flux", 400001, "flux_1"),
)

TINY_FILES: dict[str, TinyFile] = {
    file.name: file
    for file in (
        *(file for model in TINY_MODELS for file in model.files),
        *(addition.file for addition in TINY_LORAS),
    )
}


def build_command(python: Path, comfyui: Path, out: Path, names: Sequence[str] = ()) -> list[str]:
    """The command that makes `names` (all when empty) below `out` with the engine's `python`; see build.py."""
    script = Path(__file__).with_name("build.py")
    return [str(python), str(script), "--comfyui", str(comfyui), "--out", str(out), *names]


def engine_tree(out: Path) -> Path:
    """Where the build puts the copy of ComfyUI that can load what it makes."""
    return out / "comfyui"


def models_folder(out: Path) -> Path:
    """Where the build puts the models, in the layout of an owner's models folder."""
    return out / "models"
