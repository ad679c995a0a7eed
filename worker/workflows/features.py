"""Which features a request has; templates and fragments are matched by them."""

from collections.abc import Collection, Mapping

from worker.workflows.auxiliary_files import STRIP_BACKGROUND
from worker.workflows.families import TRAITS
from worker.workflows.request import RenderRequest
from worker.workflows.samplers import is_cfg_plus_plus
from worker.workflows.types import QR_CODE, Feature, Mode

#: Speed-ups and fine tuning: a template without them still serves the request.
OPTIONAL = frozenset({Feature.UNREAD_NEGATIVE, Feature.SAMPLER_OPTIONS, Feature.FLOW_SHIFT})
#: Fields that not every request has → the features that imply them.
COMES_WITH: Mapping[str, frozenset[Feature]] = {
    "source": frozenset(
        {
            Feature.PICTURE, Feature.SOURCE, Feature.MASK, Feature.INPAINT, Feature.INPAINT_MODEL, Feature.REPEAT,
            Feature.REMIX, Feature.EXTRA_SOURCES, Feature.CONTROL, Feature.ANNOTATE, Feature.CONTROL_MAP,
        }
    ),
    "control_type": frozenset({Feature.CONTROL, Feature.ANNOTATE, Feature.CONTROL_MAP}),
    "control_file": frozenset({Feature.CONTROL, Feature.ANNOTATE}),
    "control_union_type": frozenset({Feature.CONTROL, Feature.ANNOTATE}),
    "qr": frozenset(),
    "flow_shift": frozenset({Feature.FLOW_SHIFT}),
}  # fmt: skip


def features_of(request: RenderRequest) -> frozenset[Feature]:
    """Every feature of the request."""
    has_source = request.source is not None
    paints_over = has_source and request.mode in {Mode.IMG2IMG, Mode.INPAINTING, Mode.OUTPAINTING}
    repaints_parts = paints_over and request.mode is not Mode.IMG2IMG
    fills = repaints_parts and not request.model.inpainting and TRAITS[request.model.family].fills_grey
    begins_with_it = paints_over and not request.model.inpainting and not fills
    guided = request.control_type is not None and not request.return_control_map
    return frozenset(
        feature
        for feature, holds in {
            Feature.LORAS: bool(request.loras),
            Feature.PICTURE: has_source,
            Feature.SOURCE: begins_with_it,
            Feature.MASK: begins_with_it and request.masked,
            Feature.INPAINT: fills,
            Feature.INPAINT_MODEL: paints_over and request.model.inpainting,
            Feature.REPEAT: paints_over and request.batch > 1,
            Feature.REMIX: has_source and request.mode is Mode.REMIX,
            Feature.EXTRA_SOURCES: has_source and request.mode is Mode.REMIX and bool(request.extra_sources),
            Feature.CONTROL: guided,
            Feature.ANNOTATE: guided and not request.image_is_control,
            Feature.CONTROL_MAP: request.return_control_map,
            Feature.SAMPLER_OPTIONS: bool(request.sampler_options),
            Feature.FLOW_SHIFT: request.flow_shift is not None,
            Feature.TILING: request.tiling,
            Feature.TRANSPARENT: request.transparent,
            Feature.HIRES: request.hires,
            Feature.FACE_FIX: bool(request.face_fixers),
            Feature.UPSCALE: bool(request.upscalers),
            Feature.STRIP_BACKGROUND: STRIP_BACKGROUND in request.post_processing,
            Feature.UNREAD_NEGATIVE: _leaves_negative_unread(request),
            Feature.OUTPUT: True,
        }.items()
        if holds
    )


def _leaves_negative_unread(request: RenderRequest) -> bool:
    """ComfyUI skips the negative prompt at exactly cfg 1."""
    reads_later = request.hires and TRAITS[request.model.family].hires_reads_negative
    return request.cfg == 1.0 and not is_cfg_plus_plus(request.sampler) and not reads_later


def always_given(
    features: Collection[Feature], *, modes: Collection[Mode] = frozenset(Mode), workflows: Collection[str] = ()
) -> frozenset[str]:
    """Of the fields in COMES_WITH, those that every request with these features, modes and workflows has."""
    found = {field for field, features_with_it in COMES_WITH.items() if not features_with_it.isdisjoint(features)}
    if Mode.TXT2IMG not in modes:
        found.add("source")
    if set(workflows) == {QR_CODE}:
        found |= {"qr", "control_file", "control_union_type"}
    return frozenset(found)


#: Features that leave the sampler's work that of a plain picture.
PLAIN = frozenset({
    Feature.OUTPUT, Feature.UNREAD_NEGATIVE, Feature.FACE_FIX, Feature.UPSCALE, Feature.STRIP_BACKGROUND,
    Feature.SAMPLER_OPTIONS, Feature.FLOW_SHIFT,
})  # fmt: skip


def evaluations_of(request: RenderRequest) -> int:
    """Batch factor of the sampler, 1 without a negative prompt and 2 with one; 0 where other features take memory.

    ComfyUI evaluates both prompts in one batch where memory allows, else one after the other, and does not tell which.
    """
    features = features_of(request)
    if request.workflow or not features <= PLAIN:
        return 0
    return 1 if Feature.UNREAD_NEGATIVE in features else 2
