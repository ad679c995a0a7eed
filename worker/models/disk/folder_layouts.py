"""Folders with models, as four programs lay them out, and what ComfyUI calls and finds there. Pure but for `detect`.

Keys are ComfyUI's folder names (`checkpoints`, `loras` …), values the folders below the tree's root, in the order
ComfyUI searches them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from worker.models.catalog.records import Purpose


class Layout(str, Enum):
    """Who laid a tree out."""

    HORDE = "horde"
    COMFYUI = "comfyui"
    A1111 = "a1111"
    #: one folder full of checkpoints
    FLAT = "flat"


Folders = Mapping[str, tuple[str, ...]]

#: The keys beyond ComfyUI's own are read by our node pack: face restorers, layered-diffusion weights, cut-outs.
LAYOUTS: Final[Mapping[Layout, Folders]] = MappingProxyType(
    {
        Layout.HORDE: {
            "checkpoints": ("compvis",),
            "diffusion_models": ("compvis", "unet"),
            "text_encoders": ("text_encoders",),
            "vae": ("vae",),
            "loras": ("lora",),
            "embeddings": ("ti",),
            "controlnet": ("controlnet",),
            "upscale_models": ("esrgan", "gfpgan", "codeformer"),
            "clip_vision": ("clip_vision",),
            "facerestore_models": ("gfpgan", "codeformer"),
            "layer_model": ("miscellaneous",),
            "rembg": ("rembg",),
        },
        Layout.COMFYUI: {
            "checkpoints": ("checkpoints",),
            "diffusion_models": ("diffusion_models", "unet"),
            "text_encoders": ("text_encoders", "clip"),
            "vae": ("vae",),
            "loras": ("loras",),
            "embeddings": ("embeddings",),
            "controlnet": ("controlnet", "t2i_adapter"),
            "upscale_models": ("upscale_models",),
            "clip_vision": ("clip_vision",),
            "facerestore_models": ("facerestore_models",),
            "layer_model": ("layer_model",),
            "rembg": ("rembg",),
        },
        Layout.A1111: {
            "checkpoints": ("models/Stable-diffusion",),
            "text_encoders": ("models/text_encoder",),
            "vae": ("models/VAE",),
            "loras": ("models/Lora", "models/LyCORIS"),
            "embeddings": ("embeddings",),
            "controlnet": ("models/ControlNet",),
            "upscale_models": ("models/ESRGAN", "models/RealESRGAN", "models/SwinIR"),
            "facerestore_models": ("models/GFPGAN", "models/Codeformer"),
        },
        Layout.FLAT: {"checkpoints": (".",), "diffusion_models": (".",)},
    }
)
#: The horde layout's folder → ComfyUI's key, for files that are no image model.
KEY_OF_FOLDER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lora": "loras",
        "ti": "embeddings",
        "controlnet": "controlnet",
        "esrgan": "upscale_models",
        "gfpgan": "facerestore_models",
        "codeformer": "facerestore_models",
        "miscellaneous": "layer_model",
        "clip_vision": "clip_vision",
        "rembg": "rembg",
    }
)
#: Which of ComfyUI's folders the loader of a purpose looks into.
KEY_OF_PURPOSE: Final[Mapping[Purpose, str]] = MappingProxyType(
    {
        Purpose.CHECKPOINT: "checkpoints",
        Purpose.STAGE_B: "checkpoints",
        Purpose.STAGE_C: "checkpoints",
        Purpose.UNET: "diffusion_models",
        Purpose.TEXT_ENCODER: "text_encoders",
        Purpose.TEXT_ENCODER_2: "text_encoders",
        Purpose.VAE: "vae",
    }
)
#: Endings, in lower case, of the files that ComfyUI lists as models.
MODEL_SUFFIXES: Final = frozenset({".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl"})
#: What tells a layout: the folder that it alone has, tried in this order.
_MARKS: Final = (
    ("compvis", Layout.HORDE, "."),
    ("models/Stable-diffusion", Layout.A1111, "."),
    ("models/checkpoints", Layout.COMFYUI, "models"),
    ("models/compvis", Layout.HORDE, "models"),
    ("checkpoints", Layout.COMFYUI, "."),
)


@dataclass(frozen=True)
class ModelTree:
    """A folder with models. Only the worker's own tree is written to."""

    root: Path
    layout: Layout = Layout.HORDE
    writable: bool = False

    def folders(self, key: str) -> tuple[Path, ...]:
        """The folders of one of ComfyUI's kinds, in search order; they need not exist."""
        return tuple(self.root / folder for folder in LAYOUTS[self.layout].get(key, ()))


def detect(folder: Path) -> ModelTree:
    """The tree at `folder`, read-only: a horde, ComfyUI or A1111 tree by its folders, else checkpoints only."""
    for mark, layout, root in _MARKS:
        if (folder / mark).is_dir():
            return ModelTree(folder / root if root != "." else folder, layout)
    return ModelTree(folder, Layout.FLAT)
