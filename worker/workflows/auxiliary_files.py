"""Files beside the image models: post-processors, ControlNets, annotators, LayerDiffuse; and which a request needs.

The lists are data, in comfy_workflows/auxiliary_files.yaml and in the families' files. Where the model reference has
a record, address and checksum come from there; other files have their address in the list.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from worker.errors import JobNotServable
from worker.workflows import packaged_folder, read_yaml
from worker.workflows.families import CONTROLNET_FOLDER, FOLDER, TRAITS, ListedFile
from worker.workflows.request import RenderRequest, ServedModel
from worker.workflows.types import QR_CODE, Family, Feature

#: The post-processor that cuts out the background, as the payload names it.
STRIP_BACKGROUND: Final = "strip_background"


@dataclass(frozen=True)
class AuxiliaryFile:
    """One file. `folder` is directly below the model root, `name` is the path within it, as ComfyUI lists it.

    `category` and `record` name its entry in the model reference; both are "" for a file in no reference.
    """

    folder: str
    name: str
    category: str = ""
    record: str = ""
    url: str | None = None
    #: lower case
    sha256: str | None = None


#: Whether a file is here.
Has = Callable[[AuxiliaryFile], bool]
#: A file's name as ComfyUI lists it here; None for one that is not here.
Listed = Callable[[AuxiliaryFile], str | None]


@dataclass(frozen=True)
class ControlNet:
    """A ControlNet for one control type, or for the workflow qr_code."""

    file: AuxiliaryFile
    #: what SetUnionControlNetType is told
    union_type: str = "auto"
    #: used where it is, and never fetched
    own: bool = False


@dataclass(frozen=True)
class LayerDiffuse:
    """`model` makes a family's models draw on nothing, `decoder` decodes the transparency afterwards."""

    model: AuxiliaryFile
    decoder: AuxiliaryFile


@lru_cache(maxsize=256)
def _of(listed: ListedFile) -> AuxiliaryFile:
    category, _, record = listed.record.partition("/")
    return AuxiliaryFile(listed.folder, listed.name, category, record, listed.url, listed.sha256)


def _file(entry: Mapping[str, Any]) -> AuxiliaryFile:
    return _of(ListedFile.model_validate({key: entry[key] for key in entry if key in ListedFile.model_fields}))


def _files(entries: Mapping[str, Any]) -> Mapping[str, AuxiliaryFile]:
    return MappingProxyType({name: _file(entry) for name, entry in entries.items()})


_FILE: Final = packaged_folder() / "auxiliary_files.yaml"
_DATA: Final = read_yaml(_FILE.read_text("utf-8"), _FILE)

#: Post-processor → the network it runs.
UPSCALERS: Final = _files(_DATA["upscalers"])
FACE_FIXERS: Final = _files(_DATA["face_fixers"])
#: Upscaler → how many times it enlarges each side.
SCALES: Final[Mapping[str, int]] = {name: entry["scale"] for name, entry in _DATA["upscalers"].items()}
#: Upscaler → its time for a pixel as a multiple of ESRGAN's.
COSTS: Final[Mapping[str, float]] = {name: entry.get("cost", 1.0) for name, entry in _DATA["upscalers"].items()}
#: Every face fixer needs both.
FACE_DETECTOR: Final = _file(_DATA["face_detector"])
FACE_PARSER: Final = _file(_DATA["face_parser"])
BACKGROUND: Final = _file(_DATA[STRIP_BACKGROUND])
#: Of use to the safety child, which scores pictures with it.
AESTHETIC: Final = _file(_DATA["aesthetic"])
#: Control type → the networks that make its map from a picture; none where arithmetic does it.
ANNOTATORS: Final[Mapping[str, tuple[AuxiliaryFile, ...]]] = MappingProxyType(
    {kind: tuple(map(_file, entries)) for kind, entries in _DATA["annotators"].items()}
)


def controlnets(family: Family) -> Mapping[str, tuple[ControlNet, ...]]:
    """Control type as RenderRequest has it → the family's ControlNets, of which the first that is here is used.

    A type that is not there is not served.
    """
    found = {kind: [ControlNet(_of(listed))] for kind, listed in TRAITS[family].controlnets.items()}
    for own in TRAITS[family].own_controlnets:
        for kind, union_type in own.types.items():
            found.setdefault(kind, []).extend(
                ControlNet(AuxiliaryFile(CONTROLNET_FOLDER, name), union_type, own=True) for name in own.names
            )
    return {kind: tuple(choices) for kind, choices in found.items()}


def odd_control_types() -> list[str]:
    """Control types of families' files that no job asks for, as `file:key: what`."""
    return [
        f"{FOLDER}/{family.value}.yaml:controlnets: {kind} is no control type; there are {', '.join(ANNOTATORS)}"
        for family in Family
        for kind in controlnets(family)
        if kind not in ANNOTATORS
    ]


def qr_controlnet(family: Family) -> AuxiliaryFile | None:
    """The family's ControlNet of the workflow qr_code."""
    listed = TRAITS[family].qr_controlnet
    return _of(listed) if listed else None


def layer_diffuse(family: Family) -> LayerDiffuse | None:
    """What the family's transparent pictures are made with; None where it has none."""
    both = TRAITS[family].layer_diffuse
    return LayerDiffuse(_of(both.model), _of(both.decoder)) if both else None


def needs(
    request: RenderRequest, has: Has = lambda _: True, *, but_for: Collection[Feature] = ()
) -> tuple[AuxiliaryFile, ...]:
    """Every file beside the model's own that the request's graph loads, each once, whether it is here or not.

    `has` decides between several files for the same purpose. `but_for`: features that a template does in its own way
    or not at all.
    Raises JobNotServable where no file exists that could do it, as for a ControlNet on SDXL.
    """
    files: list[AuxiliaryFile] = []
    makes_map = request.return_control_map or not request.image_is_control
    if request.control_type and makes_map and Feature.ANNOTATE not in but_for:
        files += ANNOTATORS.get(request.control_type, ())
    guidance = QR_CODE if request.workflow == QR_CODE else None if request.return_control_map else request.control_type
    if guidance and Feature.CONTROL not in but_for:
        network = controlnet(request.model, guidance, has)
        if network is None:
            raise JobNotServable(f"There is no ControlNet for {guidance} on {request.model.kind}.")
        files.append(network.file)
    layers = layer_diffuse(request.model.family) if request.transparent else None
    if layers and Feature.TRANSPARENT not in but_for:
        files += [layers.model, layers.decoder]
    for name in request.post_processing:
        files += () if feature_of_post_processor(name) in but_for else of_post_processor(name)
    return tuple(dict.fromkeys(files))


def controlnet(model: ServedModel, use: str | None, has: Has) -> ControlNet | None:
    """The ControlNet for a control type or for the workflow qr_code; None where there is none for the model.

    Of several the first that is here; the first of all where none is.
    """
    # An inpainting model's first layer also takes the mask and the picture, and no ControlNet was made for one.
    if model.inpainting:
        return None
    if use == QR_CODE:
        file = qr_controlnet(model.family)
        return ControlNet(file) if file else None
    choices = controlnets(model.family).get(use or "", ())
    return next((choice for choice in choices if has(choice.file)), next(iter(choices), None))


def feature_of_post_processor(name: str) -> Feature:
    """The feature whose fragment runs this post-processor."""
    if name in FACE_FIXERS:
        return Feature.FACE_FIX
    return Feature.STRIP_BACKGROUND if name == STRIP_BACKGROUND else Feature.UPSCALE


def of_post_processor(name: str) -> tuple[AuxiliaryFile, ...]:
    """The files of one name of the Horde's list. Raises KeyError for a name that is on no list."""
    if name in FACE_FIXERS:
        return FACE_FIXERS[name], FACE_DETECTOR, FACE_PARSER
    return (BACKGROUND,) if name == STRIP_BACKGROUND else (UPSCALERS[name],)


def of_feature(feature: Feature) -> tuple[AuxiliaryFile, ...]:
    """Every file that may serve a feature, each once; none for a feature that needs no files of its own."""
    match feature:
        case Feature.CONTROL | Feature.ANNOTATE | Feature.CONTROL_MAP:
            found: Iterable[AuxiliaryFile] = (
                *(each.file for family in Family for choices in controlnets(family).values() for each in choices),
                *(file for files in ANNOTATORS.values() for file in files),
            )
        case Feature.TRANSPARENT:
            found = (file for both in map(layer_diffuse, Family) if both for file in (both.model, both.decoder))
        case Feature.UPSCALE:
            found = UPSCALERS.values()
        case Feature.FACE_FIX:
            found = (*FACE_FIXERS.values(), FACE_DETECTOR, FACE_PARSER)
        case Feature.STRIP_BACKGROUND:
            found = (BACKGROUND,)
        case _:
            found = ()
    return tuple(dict.fromkeys(found))


def all_files() -> tuple[AuxiliaryFile, ...]:
    """All files beside the models that any kind of job needs, each once."""
    of_features = (file for feature in Feature for file in of_feature(feature))
    return tuple(dict.fromkeys([*of_features, *filter(None, map(qr_controlnet, Family))]))
