"""Folder layouts of four programs, with ComfyUI's names for the folders. Pure, except for `detect`.

Keys are ComfyUI's folder names (`checkpoints`, `loras` …), values are folders below the tree's root, in
ComfyUI's search order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from worker.models.catalog.records import Purpose


class Layout(str, Enum):
    """The program whose layout a tree has."""

    HORDE = "horde"
    COMFYUI = "comfyui"
    A1111 = "a1111"
    #: one folder full of checkpoints
    FLAT = "flat"


Folders = Mapping[str, tuple[str, ...]]

#: Keys that are not ComfyUI's own are used by the node pack: facerestore_models, layer_model, rembg.
_HORDE: Final[Folders] = {
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
}
#: Folders by the names that ComfyUI had for them before.
_OLDER_NAMES: Final = {"diffusion_models": "unet", "text_encoders": "clip", "controlnet": "t2i_adapter"}
LAYOUTS: Final[Mapping[Layout, Folders]] = {
    Layout.HORDE: _HORDE,
    Layout.COMFYUI: {key: (key, _OLDER_NAMES[key]) if key in _OLDER_NAMES else (key,) for key in _HORDE},
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
#: Folder of the horde layout → ComfyUI's key, for auxiliary files.
KEY_OF_FOLDER: Final[Mapping[str, str]] = {
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
#: Purpose → ComfyUI's key of the folders that its loader searches.
KEY_OF_PURPOSE: Final[Mapping[Purpose, str]] = {
    Purpose.CHECKPOINT: "checkpoints",
    Purpose.STAGE_B: "checkpoints",
    Purpose.STAGE_C: "checkpoints",
    Purpose.UNET: "diffusion_models",
    Purpose.TEXT_ENCODER: "text_encoders",
    Purpose.TEXT_ENCODER_2: "text_encoders",
    Purpose.VAE: "vae",
}
#: Suffixes, in lower case, of the files that ComfyUI lists as models.
MODEL_SUFFIXES: Final = frozenset({".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl"})
#: (folder that only this layout has, layout, its root below the given folder), tried in this order.
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
        """The folders of one of ComfyUI's keys, in search order; they need not exist."""
        return tuple(self.root / folder for folder in LAYOUTS[self.layout].get(key, ()))


def detect(folder: Path) -> ModelTree:
    """The tree at `folder`, read-only: with a horde, ComfyUI or A1111 layout by its folders, else checkpoints only."""
    for mark, layout, root in _MARKS:
        if (folder / mark).is_dir():
            return ModelTree(folder / root if root != "." else folder, layout)
    return ModelTree(folder, Layout.FLAT)
