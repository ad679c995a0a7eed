"""What sets the model families apart: data in comfy_workflows/families/, and in an owner's workflows_dir/families/.

A file is called after the family, which is a baseline of the Horde's model reference. With a file, a template, and a
model of that baseline, an owner serves a family that this project never heard of; where it is `like` another one, the
file alone is enough. A file with a mistake changes nothing, and costs only the families that are like its own.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from worker.workflows import Texts, packaged_folder, read_packaged, read_yaml
from worker.workflows.types import Family, fold_baseline

FOLDER = "families"
#: The largest file that is read; ours have up to 4 kB.
MAX_FILE_BYTES = 64 * 1024
#: Files of a folder that are read, and mistakes in one that are told.
MAX_FILES, MOST_TOLD = 200, 10
#: Where ComfyUI looks for ControlNets, below the model root.
CONTROLNET_FOLDER = "controlnet"

Purpose = Literal["checkpoint", "unet", "text_encoder", "text_encoder_2", "vae", "stage_b", "stage_c"]


class DataModel(BaseModel, extra="forbid", frozen=True):
    """Base of what our YAML files hold: unknown keys are mistakes."""


def _relative(path: str) -> str:
    if "\\" in path or ":" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("a path within the models folder is wanted, with / between its parts")
    return path


class AuxiliaryFile(DataModel):
    """A file beside the models, as auxiliary_files.yaml and a family's file write it."""

    #: directly below the model root
    folder: str = Field(min_length=1, pattern=r"^\w[\w.-]*$")
    #: path within the folder, as ComfyUI lists it
    name: Annotated[str, AfterValidator(_relative)] = Field(min_length=1)
    #: category/name in the Horde's model reference, which then has address and checksum
    record: str = ""
    url: str | None = Field(default=None, pattern="^https://")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")

    @property
    def listed_as(self) -> tuple[str, str]:
        """Category and name in the model reference; both "" for a file in no reference."""
        category, _, name = self.record.partition("/")
        return category, name


class OwnControlNet(DataModel):
    """A ControlNet that owners may have, by the names they have it under: used where it is, and never fetched."""

    #: paths within the folder controlnet, the most usual first
    names: list[Annotated[str, Field(min_length=1), AfterValidator(_relative)]] = Field(min_length=1)
    #: control type as a request has it → the `type` of SetUnionControlNetType by which a network for several types
    #: is told which; `auto` for one that need not be told
    types: dict[str, Annotated[str, Field(min_length=1)]] = Field(min_length=1)

    @cached_property
    def files(self) -> tuple[AuxiliaryFile, ...]:
        """Made once: a job with a ControlNet looks at all of them."""
        return tuple(AuxiliaryFile(folder=CONTROLNET_FOLDER, name=name) for name in self.names)


class LayerDiffuse(DataModel):
    """`model` makes a family's models draw on nothing, `decoder` decodes the transparency afterwards."""

    model: AuxiliaryFile
    decoder: AuxiliaryFile


class FirstPass(DataModel):
    """Size of the first pass of a hires fix. One of three ways."""

    #: the one of these with the nearest shape, as [width, height] in pixels
    sizes: list[tuple[int, int]] = []
    #: the shorter side, in pixels
    shorter_px: int = Field(default=0, ge=0, le=8192)
    #: the longer side, in pixels
    longer_px: int = Field(default=0, ge=0, le=8192)

    @model_validator(mode="after")
    def _one_way(self) -> "FirstPass":
        if sum(map(bool, (self.sizes, self.shorter_px, self.longer_px))) != 1:
            raise ValueError("name one of sizes, shorter_px and longer_px")
        if any(side < 64 or side % 64 for size in self.sizes for side in size):  # noqa: PLR2004 - the Horde's step
            raise ValueError("sizes are multiples of 64")
        return self


class Marks(DataModel):
    """Names of tensors by which files of the family are told from those of others."""

    #: parts of names in a LoRA, with underscores for dots; one is enough
    lora: list[str] = []
    #: sets of names in a diffusion model, without the prefix of a whole checkpoint; one set is enough
    model: list[list[str]] = []
    #: names that no diffusion model of the family has
    model_lacks: list[str] = []
    #: columns of the projections by which a U-Net reads the text
    text_width: int | None = None


class EngineNeeds(DataModel):
    """What an engine must have to run the family's models."""

    #: node classes
    nodes: list[str] = []
    #: `NodeClass.input` → choices that the input must list
    choices: dict[Annotated[str, Field(pattern=r"^.+\..+$")], Texts] = {}
    #: the least version of ComfyUI, where no node tells it
    comfyui: str = Field(default="", pattern=r"^(\d+(\.\d+)*)?$")


class Traits(DataModel):
    """One family's file."""

    #: the family whose file holds for everything that this one does not say, and whose templates serve this one too
    like: str = ""
    #: name as a person writes it; without one the family's own
    title: str = ""
    #: further names of the baseline in model references
    baselines: list[Annotated[str, AfterValidator(fold_baseline)]] = []
    #: names that a person may write after ALL in models_to_load
    groups: list[Annotated[str, AfterValidator(fold_baseline)]] = []
    #: beginnings of CivitAI's names of the base models whose LoRAs work with the family, in lower case
    civitai: list[Annotated[str, AfterValidator(str.casefold)]] = []
    #: side of the squares that the models were trained on, in pixels
    native_px: int = Field(ge=64, le=8192)
    #: the smallest side that works, in pixels
    min_side_px: int = Field(default=64, ge=64, le=8192, multiple_of=64)
    #: hires fix: a second pass at the full size exists
    hires: bool = True
    #: no second pass for pictures with a side of this many pixels or fewer
    hires_above_px: int = 0
    first_pass: FirstPass = FirstPass(shorter_px=512)
    #: the second pass reads the negative prompt even at cfg 1, for it has a cfg of its own
    hires_reads_negative: bool = False
    #: the Horde sends jobs with a second pass without asking, so a worker that has none serves no such model
    hires_unasked: bool = False
    #: the one scheduler that the models work well with; None for any
    scheduler: str | None = None
    #: a payload's `scheduler` overrides it all the same
    scheduler_may_be_asked: bool = False
    #: scheduler of the Horde → the name that the engine has for this family; without it that scheduler is not taken
    schedulers: dict[str, str] = {}
    #: inpainting without an inpainting model starts from a greyed-out part; the other families sample the part anew
    fills_grey: bool = False
    #: source pictures can be blended with the prompt (remix)
    blends_pictures: bool = False
    #: a payload's `flow_shift` moves where the steps are spent
    flow_shift: bool = False
    #: time of a megapixelstep as a multiple of SD 1.5's, roughly: assumed until a speed is measured
    cost: float = Field(default=1.0, gt=0, le=1000)
    #: the Horde gives this many times the time
    ttl: float = Field(default=1.0, ge=1, le=100)
    #: files of 12 GB and more: commands such as TOP 5 choose its models only with load_large_models
    large: bool = False
    #: the Horde sends no jobs of a model to workers that claim less
    feature_level: int = Field(default=0, ge=0, le=1000)
    #: QR codes come only with allow_sdxl_controlnet
    qr_code_by_switch: bool = False
    #: sets of files, by their purposes, that make a whole model
    files: list[Annotated[list[Purpose], Field(min_length=1)]] = Field(default=[["checkpoint"]], min_length=1)
    marks: Marks = Marks()
    #: control type as a request has it → its ControlNet. A type that is not here is not served.
    controlnets: dict[str, AuxiliaryFile] = {}
    #: further ControlNets, the best first
    own_controlnets: list[OwnControlNet] = []
    #: the ControlNet of the workflow qr_code
    qr_controlnet: AuxiliaryFile | None = None
    #: for transparent pictures
    layer_diffuse: LayerDiffuse | None = None
    #: an engine without these is offered no job of the family
    needs: EngineNeeds = EngineNeeds()

    @field_validator("controlnets", "qr_controlnet")
    @classmethod
    def _where_comfyui_looks(cls, found: Any) -> Any:
        for listed in found.values() if isinstance(found, dict) else filter(None, [found]):
            if listed.folder != CONTROLNET_FOLDER:
                raise ValueError(f"ComfyUI finds ControlNets in the folder {CONTROLNET_FOLDER} alone")
        return found


TRAITS: dict[Family, Traits] = {}
#: Other name of a baseline → its family.
BASELINES: dict[str, Family] = {}
#: Each family's file as it was read, for those that are `like` it. The names are a family's own.
_READ: dict[str, dict[str, Any]] = {}
#: The same of our own files, for an owner's that change them.
_OURS: dict[str, dict[str, Any]] = {}
_OWN_NAMES = frozenset({"like", "title", "baselines", "groups"})


def load(folder: Path) -> list[str]:
    """Make the families of a folder of workflows known, for this process; later files replace earlier ones.

    Returns what is wrong, as `file:key: what`; a file with a mistake changes nothing.
    """
    found, wrong = _read(folder)
    mistaken: set[str] = set()
    while True:
        made: dict[str, Traits] = {}
        mistakes: dict[str, list[str]] = {}
        for name in found:
            try:
                made[name] = Traits.model_validate(_with_likeness(name, found, mistaken))
                _refuse_foreign_names(name, made)
            except ValidationError as error:
                mistakes[name] = [
                    f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
                    for each in itertools.islice(error.errors(include_url=False), MOST_TOLD)
                ]
                if error.error_count() > MOST_TOLD:
                    mistakes[name].append(f": {error.error_count() - MOST_TOLD} more mistakes")
            except ValueError as error:
                mistakes[name] = [str(error)]
        if not mistakes:
            break
        # What is like one with a mistake is looked at again, without that one. In a circle all are told.
        followers = {name for name in mistakes if mistakes.keys() & set(_likes(name, found))}
        for name in sorted(mistakes.keys() - followers or mistakes):
            wrong += [f"{FOLDER}/{name}.yaml:{each}" for each in mistakes[name]]
            mistaken.add(name)
            del found[name]
    for name, traits in made.items():
        _READ[name] = found[name]
        _add(Family.register(name), traits)
    return wrong


def _read(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Family → content of its file, and what can't be read."""
    found: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    paths = sorted(itertools.islice((folder / FOLDER).glob("*"), MAX_FILES + 1))
    if len(paths) > MAX_FILES:
        return {}, [f"{FOLDER}:: holds more than {MAX_FILES} files, so none of them is read"]
    for path in paths:
        name = fold_baseline(path.stem)
        if path.suffix.casefold() in {".yml", ".yaml"} and path.suffix != ".yaml":
            wrong.append(f"{FOLDER}/{path.name}:: is not read; its name must end in .yaml")
        # Editors and systems leave hidden files beside the others.
        if path.suffix != ".yaml" or path.name.startswith("."):
            continue
        try:
            if name in found:
                raise ValueError(f"another file is for {name} as well")
            content = _content_of(path)
            if content.get("like") == name and name in _OURS:
                content = {**_OURS[name], **{key: value for key, value in content.items() if key != "like"}}
            found[name] = content
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            wrong.append(f"{FOLDER}/{path.name}:: can't be read: {' '.join(str(error).split())}")
    return found, wrong


def _content_of(path: Path) -> dict[str, Any]:
    """Raises ValueError, OSError, YAMLError, RecursionError."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes")
    content = read_yaml(path.read_text("utf-8-sig"), path)
    if not isinstance(content, dict):
        raise ValueError("holds no keys with values")  # noqa: TRY004 - bad data, not a bad call
    like = content.get("like")
    return {**content, "like": fold_baseline(like)} if isinstance(like, str) else content


def _with_likeness(name: str, found: Mapping[str, dict[str, Any]], mistaken: Iterable[str]) -> dict[str, Any]:
    """A family's file, completed by those that it is like. Raises ValueError for one that does not exist."""
    whole, at, seen = dict(found[name]), found[name], {name}
    while like := at.get("like"):
        if not isinstance(like, str) or (like not in found and like not in _READ):
            if isinstance(like, str) and like in mistaken:
                raise ValueError(f"like: there is a mistake in the file of {like}")
            raise ValueError(
                f"like: there is no family {like!r}; there are {', '.join(sorted({*found, *_READ} - {name}))}"
            )
        if like in seen:
            raise ValueError(f"like: it leads back to {like}")
        seen.add(like)
        at = found[like] if like in found else _READ[like]
        whole = {**{key: value for key, value in at.items() if key not in _OWN_NAMES}, **whole}
    return whole


def _likes(name: str, found: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """The others of these that the family is like, the nearest first."""
    seen = {name}
    while isinstance(like := found[name].get("like"), str) and like in found and like not in seen:
        seen.add(like)
        yield like
        name = like


def _refuse_foreign_names(name: str, made: Mapping[str, Traits]) -> None:
    """Raises ValueError where one of the family's `baselines` is another family, or another one's too."""
    of_files = {**{family.value: traits for family, traits in TRAITS.items()}, **made}
    for other in made[name].baselines:
        for family, traits in of_files.items():
            if family != name and other in {family, *traits.baselines}:
                raise ValueError(f"baselines: {other} means the family {family} already")


def _add(family: Family, traits: Traits) -> None:
    TRAITS[family] = traits
    BASELINES.update(dict.fromkeys(traits.baselines, family))


def lineage(family: Family) -> Iterator[Family]:
    """The family, and those that it is like, the nearest first."""
    seen: set[Family] = set()
    while family not in seen:
        seen.add(family)
        yield family
        if like := TRAITS[family].like:
            family = Family(like)


def title_of(family: Family) -> str:
    """The family's name as a person writes it."""
    return TRAITS[family].title or family.value


def of_group(name: str) -> frozenset[Family]:
    """The families that a person means by a name after ALL; none for an unknown one."""
    return frozenset(family for family, traits in TRAITS.items() if name in traits.groups)


def groups() -> tuple[str, ...]:
    """All names after ALL that stand for families, each once."""
    return tuple(dict.fromkeys(group for traits in TRAITS.values() for group in traits.groups))


def is_for(families: Iterable[Family], family: Family) -> bool:
    """Whether what is made for `families` is for this one too: it is one of them, or like one."""
    wanted = set(families)
    return any(each in wanted for each in lineage(family))


#: Kinds of models that are no family here, by the name a person knows, and how their files are told.
OTHER_MODELS: Mapping[str, Marks] = {
    each["title"]: Marks.model_validate(each["marks"]) for each in read_packaged("other_models.yaml")
}

if _mistakes := load(packaged_folder()):
    raise ValueError(f"the packaged families have mistakes: {'; '.join(_mistakes)}")
_OURS.update(_READ)
