"""Which kinds of jobs can be done: sample jobs of every kind are tried on the templates and files, without rendering.

A kind of job works with a model if a template serves it, its graph can be filled in, and every file it needs is here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from worker.errors import JobNotServable, TemplateError
from worker.workflows.auxiliary_files import Has, controlnet, controlnets, needs
from worker.workflows.families import TRAITS
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.payload import read_request
from worker.workflows.request import ExtraSource, LoraFile, RenderRequest, ServedModel, SourceImage
from worker.workflows.template_selection import TemplateMatch, explain, select
from worker.workflows.types import QR_CODE, Dialect

#: Post-processors that the Horde sends to every worker, and those it sends to newer feature levels only.
OLD_PROCESSORS: Final = (
    "GFPGAN", "CodeFormers", "RealESRGAN_x4plus", "RealESRGAN_x2plus", "RealESRGAN_x4plus_anime_6B", "NMKD_Siax",
    "4x_AnimeSharp", "strip_background",
)  # fmt: skip
NEW_PROCESSORS: Final = (
    "GFPGANv1.3", "RestoreFormer", "4xNomos8kSC", "4xLSDIRplus", "4xNomosWebPhoto_RealPLKSR",
    "4xNomos2_realplksr_dysample", "4xNomos2_hq_dat2", "2xModernSpanimationV1",
)  # fmt: skip
#: Twice the native side of the largest family: large enough for a second pass everywhere.
LARGE: Final = {"width": 2048, "height": 2048}


class Ability(str, Enum):
    """One kind of job."""

    PICTURES = "txt2img"
    IMG2IMG = "img2img"
    PAINTING = "painting"
    HIRES = "hires fix"
    TILING = "tiling"
    LORAS = "loras"
    CONTROL = "controlnet"
    POST_PROCESSING = "post-processing"
    NEW_POST_PROCESSING = "newer post-processing"
    REMIX = "remix"
    QR_CODE = "qr_code"
    TRANSPARENT = "transparent"


@dataclass(frozen=True)
class Probe:
    """A sample job. `masked`: whether its source picture has a mask; None without a picture."""

    payload: Mapping[str, Any] = field(default_factory=dict)
    processing: str = "txt2img"
    masked: bool | None = None
    extras: int = 0
    loras: int = 0

    def request(self, model: ServedModel) -> RenderRequest:
        # An inpainting model gets a picture even where the job brings none.
        masked = True if model.inpainting else self.masked
        picture = SourceImage("probe", 512, 512, has_alpha=bool(masked))
        return read_request(
            {"prompt": "a", "seed": "0", "cfg_scale": 2, **self.payload},
            model=model,
            source_processing=self.processing,
            source=None if masked is None else picture,
            extra_sources=[ExtraSource(picture)] * self.extras,
            loras=[LoraFile("probe.safetensors")] * self.loras,
        )


_PAINTED = Probe(processing="img2img", masked=False)
_PROBES: Final[Mapping[Ability, tuple[Probe, ...]]] = {
    Ability.PICTURES: (Probe(),),
    Ability.IMG2IMG: (_PAINTED, Probe(processing="img2img", masked=True), Probe({"n_iter": 2}, "img2img", False)),
    Ability.PAINTING: (Probe(processing="inpainting", masked=True), Probe(processing="outpainting", masked=True)),
    Ability.HIRES: (Probe({**LARGE, "hires_fix": True}),),
    Ability.TILING: (Probe({"tiling": True}),),
    Ability.LORAS: (Probe(loras=1),),
    Ability.POST_PROCESSING: tuple(Probe({"post_processing": [name]}) for name in OLD_PROCESSORS),
    Ability.NEW_POST_PROCESSING: tuple(Probe({"post_processing": [name]}) for name in NEW_PROCESSORS),
    Ability.REMIX: (Probe(processing="remix", masked=False), Probe(processing="remix", masked=False, extras=1)),
    Ability.QR_CODE: (Probe({"workflow": QR_CODE, "width": 1024, "height": 1024}),),
    Ability.TRANSPARENT: (Probe({"transparent": True}), Probe({**LARGE, "transparent": True, "hires_fix": True})),
}


def probes_for(ability: Ability, model: ServedModel) -> tuple[Probe, ...]:
    """The jobs of this kind that the Horde may send for a model; none where no such job exists for its family."""
    traits = TRAITS[model.family]
    match ability:
        case Ability.CONTROL:
            # There is no ControlNet for an inpainting model, but a map is made for any.
            flags = ("return_control_map",) if model.inpainting else ("", "image_is_control", "return_control_map")
            return tuple(
                Probe({"control_type": kind, flag: True} if flag else {"control_type": kind}, "img2img", False)
                for kind in controlnets(model.family)
                for flag in flags
            )
        case Ability.REMIX if not traits.blends_pictures:
            return ()
        case Ability.QR_CODE if model.inpainting or not traits.qr_controlnet:
            return ()
        case Ability.TRANSPARENT if model.inpainting or not traits.layer_diffuse:
            return ()
        case Ability.HIRES if not traits.hires:
            return ()
        case _:
            return _PROBES[ability]


@dataclass(frozen=True)
class Survey:
    """`lacking`: what does not work → name of the model → why."""

    models: tuple[ServedModel, ...]
    lacking: Mapping[Ability, Mapping[str, str]]
    #: that the engine lists
    samplers: frozenset[str] = frozenset()

    def works(self, ability: Ability) -> bool:
        """For every model: no job of this kind must be turned away."""
        return not self.lacking.get(ability)

    def reason(self, ability: Ability) -> str:
        """Why not, in the words of one model; empty where it works."""
        return next((f"{name}: {reason}" for name, reason in self.lacking.get(ability, {}).items()), "")

    def among(self, names: Iterable[str]) -> "Survey":
        """The same of fewer models."""
        kept = set(names)
        return Survey(
            tuple(model for model in self.models if model.name in kept),
            {
                ability: {name: reason for name, reason in found.items() if name in kept}
                for ability, found in self.lacking.items()
            },
            self.samplers,
        )


def survey(library: Library, models: Iterable[ServedModel], has: Has) -> Survey:
    """Try everything with every model; models that no template tells apart are tried once."""
    models = tuple(models)
    named = {name for template in library.templates for name in template.manifest.serves.models}
    known: dict[tuple[object, ...], dict[Ability, str]] = {}
    lacking: dict[Ability, dict[str, str]] = {}
    for model in models:
        kind = (model.family, frozenset(model.files), model.inpainting, model.name if model.name in named else "")
        if kind not in known:
            filled: set[tuple[str, ...]] = set()
            known[kind] = {
                ability: reason for ability in Ability if (reason := _obstacle(library, model, ability, has, filled))
            }
        for ability, reason in known[kind].items():
            lacking.setdefault(ability, {})[model.name] = reason
    return Survey(models, lacking, library.samplers)


def _distance(verdict: TemplateMatch) -> tuple[int, int]:
    """How far a template is from serving a request: one for other models, or switched off, is no near miss."""
    strange = any(reason.startswith("it is") for reason in verdict.reasons)
    off = any(reason.startswith("switched off") for reason in verdict.reasons)
    return 2 * strange + off, len(verdict.reasons)


def _obstacle(
    library: Library,
    model: ServedModel,
    ability: Ability,
    has: Has,
    filled: set[tuple[str, ...]],
) -> str:
    for probe in probes_for(ability, model):
        request = probe.request(model)
        network = controlnet(model, request.control_type, has)
        if network and network.own and not has(network.file):
            continue
        if reason := obstacle(library, request, has, filled):
            return reason
    return ""


def obstacle(
    library: Library,
    request: RenderRequest,
    has: Has,
    filled: set[tuple[str, ...]],
) -> str:
    """Why a request can't be served here; empty where it can.

    `filled`: the plans that held together before, for the same kind of model; they are not filled in again.
    """
    try:
        selection = select(library, request)
        files = needs(request, has, but_for=selection.does_without)
        if selection.names not in filled:
            materialise(
                selection, request, dialect=next(dialect for dialect in Dialect if not selection.missing(dialect))
            )
            filled.add(selection.names)
    except TemplateError as error:
        return " ".join(error.message.splitlines())
    except JobNotServable as error:
        verdicts = [verdict for verdict in explain(library, request) if not verdict.serves]
        nearest = min(verdicts, key=_distance, default=None)
        return f"{nearest.template}: {', '.join(nearest.reasons)}" if nearest else error.message
    absent = [f"{file.folder}/{file.name}" for file in files if not has(file)]
    return f"{' and '.join(absent)} not here" if absent else ""
