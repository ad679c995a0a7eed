"""What a request needs beyond a plain picture, as a closed vocabulary that templates and fragments are matched by."""

from enum import Enum

from worker.workflows.request import FACE_FIXERS, STRIP_BACKGROUND, UPSCALERS, Mode, RenderRequest
from worker.workflows.samplers import is_cfg_plus_plus


class Feature(str, Enum):
    """One thing that a fragment adds to a template, or that a template does by itself."""

    LORAS = "loras"
    SOURCE = "source"
    MASK = "mask"
    EXTRA_SOURCES = "extra_sources"
    CONTROL = "control"
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


def features_of(request: RenderRequest) -> frozenset[Feature]:
    """All that holds for the request."""
    paints_over = request.source is not None and request.mode is not Mode.TXT2IMG
    masked = request.mask is not None or (request.source is not None and request.source.has_alpha)
    wanted = set(request.post_processing)
    return frozenset(
        feature
        for feature, holds in {
            Feature.LORAS: bool(request.loras),
            Feature.SOURCE: paints_over,
            Feature.MASK: paints_over and masked,
            Feature.EXTRA_SOURCES: request.mode is Mode.REMIX and bool(request.extra_sources),
            Feature.CONTROL: request.control_type is not None and not request.return_control_map,
            Feature.CONTROL_MAP: request.return_control_map,
            Feature.TILING: request.tiling,
            Feature.TRANSPARENT: request.transparent,
            Feature.HIRES: request.hires,
            Feature.FACE_FIX: not wanted.isdisjoint(FACE_FIXERS),
            Feature.UPSCALE: not wanted.isdisjoint(UPSCALERS),
            Feature.STRIP_BACKGROUND: STRIP_BACKGROUND in wanted,
            # ComfyUI leaves the negative out of the sampling at exactly this cfg.
            Feature.UNREAD_NEGATIVE: request.cfg == 1.0 and not is_cfg_plus_plus(request.sampler),
            Feature.OUTPUT: True,
        }.items()
        if holds
    )
