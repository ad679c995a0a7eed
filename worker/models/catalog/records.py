"""What the model reference says of a model, as one typed record. Pure.

A path in a record never leaves the model folders: `..` is resolved against the category's folder, and the result must
be in a known folder.
"""

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Final

from worker.workflows.families import BASELINES
from worker.workflows.types import Family, fold_baseline


class Category(str, Enum):
    """A category of the model reference. The value is its name in the legacy reference."""

    IMAGE = "stable_diffusion"
    CONTROLNET = "controlnet"
    ESRGAN = "esrgan"
    GFPGAN = "gfpgan"
    CODEFORMER = "codeformer"
    MISCELLANEOUS = "miscellaneous"
    CLIP = "clip"
    SAFETY_CHECKER = "safety_checker"

    @property
    def folder(self) -> str:
        """The folder below the model root that holds this category's files."""
        return "compvis" if self is Category.IMAGE else self.value

    @property
    def service_name(self) -> str:
        """The category's name in the newer service."""
        return "image_generation" if self is Category.IMAGE else self.value


class Purpose(str, Enum):
    """The part of a model that a file is."""

    CHECKPOINT = "checkpoint"
    UNET = "unet"
    TEXT_ENCODER = "text_encoder"
    TEXT_ENCODER_2 = "text_encoder_2"
    VAE = "vae"
    STAGE_B = "stage_b"
    STAGE_C = "stage_c"
    #: not part of an image model: a ControlNet, upscaler, face restorer, detector …
    AUXILIARY = "auxiliary"


#: Folders for a record's files, directly below the model root.
KNOWN_FOLDERS: Final = frozenset(
    {category.folder for category in Category}
    | {"vae", "text_encoders", "unet", "clip_vision", "lora", "ti", "blip", "rembg"}
)
#: Control characters, and characters that Windows forbids in file names.
_BAD_IN_PATHS = re.compile(r'[\x00-\x1f<>:"|?*]')


@dataclass(frozen=True)
class ModelFile:
    """One file of a model. `folder` is a known folder below the model root, `name` the path within it.

    `path` is set for a custom model's file elsewhere; `folder` is "" then.
    """

    purpose: Purpose
    name: str
    folder: str
    #: lower case; None where the reference has none
    sha256: str | None = None
    url: str | None = None
    #: bytes; None where unknown. The reference's own figures are estimates.
    size: int | None = None
    path: Path | None = None


@dataclass(frozen=True)
class ModelRecord:
    """One model. `family` None: its baseline is not supported, so it is listed but never offered."""

    name: str
    category: Category
    files: tuple[ModelFile, ...]
    baseline: str = ""
    family: Family | None = None
    nsfw: bool = False
    inpainting: bool = False
    #: bytes of all files together according to the reference; often an estimate
    size_on_disk: int | None = None
    style: str = ""
    #: subjects it is made for: anime, furry …
    tags: tuple[str, ...] = ()
    #: one of the owner's `custom_models`
    custom: bool = False

    @property
    def size(self) -> int | None:
        """Bytes of all files together: the sum of their sizes if all are known, else the record's figure."""
        sizes = [file.size for file in self.files]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else self.size_on_disk


def family_of(baseline: str) -> Family | None:
    """The family of a baseline, None when it is not supported."""
    folded = fold_baseline(baseline)
    return Family(folded) if folded in Family else BASELINES.get(folded)


def place(category_folder: str, *parts: str) -> tuple[str, str]:
    """(folder, name) of a file given relative to its category's folder.

    Raises ValueError when the path is absolute, leaves the model root, or ends in no known folder.
    """
    steps: list[str] = [category_folder]
    for part in parts:
        text = part.replace("\\", "/")
        if text.startswith("/") or _BAD_IN_PATHS.search(text):
            raise ValueError(f"{part!r} is no relative path")
        for step in PurePosixPath(text).parts:
            if step != "..":
                steps.append(step)
            elif steps:
                steps.pop()
            else:
                raise ValueError(f"{part!r} leaves the model folder")
    if len(steps) < 2 or steps[0] not in KNOWN_FOLDERS:  # noqa: PLR2004 - a folder and a name
        raise ValueError(f"{'/'.join(parts)!r} is in no known model folder")
    return steps[0], "/".join(steps[1:])
