"""What sets the model families apart: data in comfy_workflows/families/, and in an owner's workflows_dir/families/.

A file is called after the family, which is a baseline of the Horde's model reference. With a file, a template, and a
model of that baseline, an owner serves a family that this project never heard of.
"""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.workflows import packaged_folder
from worker.workflows.types import Family

FOLDER = "families"
#: The largest file that is read; ours have 200 bytes.
MAX_FILE_BYTES = 64 * 1024

Purpose = Literal["checkpoint", "unet", "text_encoder", "text_encoder_2", "vae", "stage_b", "stage_c"]


class Traits(BaseModel):
    """One family's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: further names of the baseline in model references, in lower case, words joined by underscores
    baselines: list[str] = []
    #: side of the squares that the models were trained on, in pixels
    native_px: int = Field(ge=64, le=8192)
    #: the smallest side that works, in pixels
    min_side_px: int = Field(default=64, ge=64, le=8192, multiple_of=64)
    #: hires fix: a second pass at the full size exists
    hires: bool = True
    #: no second pass for pictures with a side of this many pixels or fewer
    hires_above_px: int = 0
    #: the one scheduler that the models work well with; None for any
    scheduler: str | None = None
    #: a payload's `scheduler` overrides it all the same
    scheduler_may_be_asked: bool = False
    #: inpainting without an inpainting model starts from a greyed-out part; the other families sample the part anew
    fills_grey: bool = False
    #: time of a megapixelstep as a multiple of SD 1.5's, roughly: assumed until a speed is measured
    cost: float = Field(default=1.0, gt=0, le=1000)
    #: the Horde gives three times the time
    long_ttl: bool = False
    #: sets of files, by their purposes, that make a whole model
    files: list[list[Purpose]] = Field(default=[["checkpoint"]], min_length=1)


TRAITS: dict[Family, Traits] = {}
#: Other name of a baseline → its family.
BASELINES: dict[str, Family] = {}


def load(folder: Path) -> list[str]:
    """Make the families of a folder of workflows known, for this process; later files replace earlier ones.

    Returns what is wrong, as `file:key: what`; a file with a mistake changes nothing.
    """
    wrong = []
    for path in sorted((folder / FOLDER).glob("*.yaml")):
        place = f"{FOLDER}/{path.name}"
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes")
            traits = Traits.model_validate(yaml.safe_load(path.read_text("utf-8-sig")))
        except ValidationError as error:
            found = error.errors(include_url=False)
            wrong += [f"{place}:{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found]
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            wrong.append(f"{place}:: can't be read: {' '.join(str(error).split())}")
        else:
            _add(Family.register(path.stem), traits)
    return wrong


def _add(family: Family, traits: Traits) -> None:
    TRAITS[family] = traits
    BASELINES.update(dict.fromkeys(traits.baselines, family))


if _mistakes := load(packaged_folder()):
    raise ValueError(f"the packaged families have mistakes: {'; '.join(_mistakes)}")
