"""What a request needs beyond a plain picture, as a closed vocabulary that templates and fragments are matched by."""

from collections.abc import Collection, Mapping
from enum import Enum

from worker.workflows.families import TRAITS
from worker.workflows.qr import WORKFLOW as QR_WORKFLOW
from worker.workflows.request import FACE_FIXERS, STRIP_BACKGROUND, UPSCALERS, Mode, RenderRequest
from worker.workflows.samplers import is_cfg_plus_plus


class Feature(str, Enum):
    """One thing that a fragment adds to a template, or that a template does by itself."""

    LORAS = "loras"
    #: a requester's picture is there to be used
    PICTURE = "picture"
    #: it is what the sampler begins with
    SOURCE = "source"
    #: only what a mask shows is sampled
    MASK = "mask"
    #: what a mask shows is filled in, by a model for whole pictures
    INPAINT = "inpaint"
    #: the same by a model that was made for it
    INPAINT_MODEL = "inpaint_model"
    #: a batch from one picture
    REPEAT = "repeat"
    #: the picture is looked at, beside the prompt; and further ones
    REMIX = "remix"
    EXTRA_SOURCES = "extra_sources"
    #: a map made of the picture, or the picture as a map, guides the sampler
    CONTROL = "control"
    #: that map has to be made first
    ANNOTATE = "annotate"
    #: the map itself is what is asked for
    CONTROL_MAP = "control_map"
    TILING = "tiling"
    TRANSPARENT = "transparent"
    HIRES = "hires"
    FACE_FIX = "face_fix"
    UPSCALE = "upscale"
    STRIP_BACKGROUND = "strip_background"
    #: the negative prompt need not be encoded, because nothing reads it
    UNREAD_NEGATIVE = "unread_negative"
    #: every request has this one: pictures must come out
    OUTPUT = "output"


#: Speed-ups: a template without them serves the request all the same.
OPTIONAL = frozenset({Feature.UNREAD_NEGATIVE})
#: Fields that not every request has → what a request with one of these features has.
COMES_WITH: Mapping[str, frozenset[Feature]] = {
    "source": frozenset(
        {
            Feature.PICTURE, Feature.SOURCE, Feature.MASK, Feature.INPAINT, Feature.INPAINT_MODEL, Feature.REPEAT,
            Feature.REMIX, Feature.EXTRA_SOURCES, Feature.CONTROL, Feature.ANNOTATE, Feature.CONTROL_MAP,
        }
    ),
    "control_type": frozenset({Feature.CONTROL, Feature.ANNOTATE, Feature.CONTROL_MAP}),
    "control_file": frozenset({Feature.CONTROL, Feature.ANNOTATE}),
    "qr": frozenset(),
}  # fmt: skip


def features_of(request: RenderRequest) -> frozenset[Feature]:
    """All that holds for the request."""
    has_source = request.source is not None
    paints_over = has_source and request.mode in {Mode.IMG2IMG, Mode.INPAINTING, Mode.OUTPAINTING}
    repaints_parts = paints_over and request.mode is not Mode.IMG2IMG
    fills = repaints_parts and not request.model.inpainting and TRAITS[request.model.family].fills_grey
    begins_with_it = paints_over and not request.model.inpainting and not fills
    guided = request.control_type is not None and not request.return_control_map
    wanted = set(request.post_processing)
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
            Feature.TILING: request.tiling,
            Feature.TRANSPARENT: request.transparent,
            Feature.HIRES: request.hires,
            Feature.FACE_FIX: not wanted.isdisjoint(FACE_FIXERS),
            Feature.UPSCALE: not wanted.isdisjoint(UPSCALERS),
            Feature.STRIP_BACKGROUND: STRIP_BACKGROUND in wanted,
            Feature.UNREAD_NEGATIVE: _leaves_negative_unread(request),
            Feature.OUTPUT: True,
        }.items()
        if holds
    )


def _leaves_negative_unread(request: RenderRequest) -> bool:
    """ComfyUI leaves the negative out of the sampling at exactly cfg 1."""
    # The second stage of an enlarged remix is told it too, and has a cfg of its own.
    also_read = is_cfg_plus_plus(request.sampler) or (request.mode is Mode.REMIX and request.hires)
    return request.cfg == 1.0 and not also_read


def always_given(
    features: Collection[Feature], *, modes: Collection[Mode] = frozenset(Mode), workflows: Collection[str] = ()
) -> frozenset[str]:
    """Of the fields that not every request has, those that are there with these features, in any of these modes, for
    any of these workflows.
    """
    found = {field for field, features_with_it in COMES_WITH.items() if not features_with_it.isdisjoint(features)}
    if Mode.TXT2IMG not in modes:
        found.add("source")
    if set(workflows) == {QR_WORKFLOW}:
        found |= {"qr", "control_file"}
    return frozenset(found)


#: All that a request may have and still be a plain picture for the sampler.
PLAIN = frozenset({
    Feature.OUTPUT, Feature.UNREAD_NEGATIVE, Feature.FACE_FIX, Feature.UPSCALE, Feature.STRIP_BACKGROUND,
})  # fmt: skip


def evaluations_of(request: RenderRequest) -> int:
    """How often each pixel may be in the sampler at once; 0 where more than the plain picture takes memory there.

    ComfyUI takes a prompt and its negative together where there is room, and else one after the other. Which of them
    it did is not told.
    """
    features = features_of(request)
    if request.workflow or not features <= PLAIN:
        return 0
    return 1 if Feature.UNREAD_NEGATIVE in features else 2
