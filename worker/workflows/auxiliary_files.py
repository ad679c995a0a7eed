"""Files beside the image models: post-processors, ControlNets, annotators, LayerDiffuse; and which a request needs.

The lists are data, in comfy_workflows/auxiliary_files.yaml and in the families' files. Where the model reference has
a record, address and checksum come from there; other files have their address in the list.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from worker.errors import JobNotServable
from worker.workflows import read_packaged
from worker.workflows.families import FOLDER, TRAITS, AuxiliaryFile, DataModel
from worker.workflows.request import RenderRequest, ServedModel
from worker.workflows.types import QR_CODE, Family, Feature

#: The post-processor that cuts out the background, as the payload names it.
STRIP_BACKGROUND: Final = "strip_background"

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


class _Upscaler(AuxiliaryFile):
    #: how many times it enlarges each side
    scale: int
    #: its time for a pixel as a multiple of ESRGAN's
    cost: float = 1.0


class _Files(DataModel):
    #: post-processor → the network it runs
    upscalers: dict[str, _Upscaler]
    face_fixers: dict[str, AuxiliaryFile]
    face_detector: AuxiliaryFile
    face_parser: AuxiliaryFile
    strip_background: AuxiliaryFile
    aesthetic: AuxiliaryFile
    #: control type → the networks that make its map from a picture; none where arithmetic does it
    annotators: dict[str, tuple[AuxiliaryFile, ...]]


_DATA: Final = _Files.model_validate(read_packaged("auxiliary_files.yaml"))

UPSCALERS: Final[Mapping[str, _Upscaler]] = _DATA.upscalers
FACE_FIXERS: Final[Mapping[str, AuxiliaryFile]] = _DATA.face_fixers
#: Of use to the safety child, which scores pictures with it.
AESTHETIC: Final = _DATA.aesthetic
ANNOTATORS: Final[Mapping[str, tuple[AuxiliaryFile, ...]]] = _DATA.annotators


def controlnets(family: Family) -> Mapping[str, tuple[ControlNet, ...]]:
    """Control type as RenderRequest has it → the family's ControlNets, of which the first that is here is used.

    A type that is not there is not served.
    """
    found = {kind: [ControlNet(file)] for kind, file in TRAITS[family].controlnets.items()}
    for own in TRAITS[family].own_controlnets:
        for kind, union_type in own.types.items():
            found.setdefault(kind, []).extend(ControlNet(file, union_type, own=True) for file in own.files)
    return {kind: tuple(choices) for kind, choices in found.items()}


def odd_control_types() -> list[str]:
    """Control types of families' files that no job asks for, as `file:key: what`."""
    return [
        f"{FOLDER}/{family.value}.yaml:controlnets: {kind} is no control type; there are {', '.join(ANNOTATORS)}"
        for family in Family
        for kind in controlnets(family)
        if kind not in ANNOTATORS
    ]


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
    layers = TRAITS[request.model.family].layer_diffuse
    if request.transparent and layers and Feature.TRANSPARENT not in but_for:
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
        file = TRAITS[model.family].qr_controlnet
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
        return FACE_FIXERS[name], _DATA.face_detector, _DATA.face_parser
    return (_DATA.strip_background,) if name == STRIP_BACKGROUND else (UPSCALERS[name],)


def of_feature(feature: Feature) -> tuple[AuxiliaryFile, ...]:
    """Every file that may serve a feature, each once; none for a feature that needs no files of its own."""
    match feature:
        case Feature.CONTROL | Feature.ANNOTATE | Feature.CONTROL_MAP:
            found: Iterable[AuxiliaryFile] = (
                *(each.file for family in Family for choices in controlnets(family).values() for each in choices),
                *(file for files in ANNOTATORS.values() for file in files),
            )
        case Feature.TRANSPARENT:
            layers = filter(None, (traits.layer_diffuse for traits in TRAITS.values()))
            found = (file for both in layers for file in (both.model, both.decoder))
        case Feature.UPSCALE:
            found = UPSCALERS.values()
        case Feature.FACE_FIX:
            found = (*FACE_FIXERS.values(), _DATA.face_detector, _DATA.face_parser)
        case Feature.STRIP_BACKGROUND:
            found = (_DATA.strip_background,)
        case _:
            found = ()
    return tuple(dict.fromkeys(found))


def all_files() -> tuple[AuxiliaryFile, ...]:
    """All files beside the models that any kind of job needs, each once."""
    of_features = (file for feature in Feature for file in of_feature(feature))
    of_qr_codes = filter(None, (traits.qr_controlnet for traits in TRAITS.values()))
    return tuple(dict.fromkeys([*of_features, *of_qr_codes]))
