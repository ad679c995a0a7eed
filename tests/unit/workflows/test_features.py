from collections.abc import Callable
from typing import Any

import pytest

from worker.workflows.features import Feature, features_of
from worker.workflows.request import ExtraSource, Family, LoraFile, RenderRequest, SourceImage

Build = Callable[..., RenderRequest]
SOURCE = SourceImage("source", 64, 64)
PAINTED = {"source": SOURCE, "source_processing": "img2img"}


@pytest.mark.parametrize(
    ("payload", "arguments", "features"),
    [
        ({}, {}, set()),
        ({}, {"loras": [LoraFile("a.safetensors")]}, {Feature.LORAS}),
        ({"hires_fix": True, "width": 768, "height": 768}, {}, {Feature.HIRES}),
        ({"tiling": True, "transparent": True}, {}, {Feature.TILING, Feature.TRANSPARENT}),
        ({}, PAINTED, {Feature.SOURCE}),
        ({}, {**PAINTED, "mask": SOURCE}, {Feature.SOURCE, Feature.MASK}),
        ({}, {**PAINTED, "source": SourceImage("s", 64, 64, has_alpha=True)}, {Feature.SOURCE, Feature.MASK}),
        ({"control_type": "canny"}, PAINTED, {Feature.CONTROL}),
        ({"control_type": "canny", "return_control_map": True}, PAINTED, {Feature.CONTROL_MAP}),
        (
            {},
            {
                "family": Family.STABLE_CASCADE,
                "source": SOURCE,
                "source_processing": "remix",
                "extra_sources": [ExtraSource(SOURCE)],
            },
            {Feature.SOURCE, Feature.EXTRA_SOURCES},
        ),
        (
            {"post_processing": ["GFPGAN", "NMKD_Siax", "strip_background"]},
            {},
            {Feature.FACE_FIX, Feature.UPSCALE, Feature.STRIP_BACKGROUND},
        ),
        ({"cfg_scale": 1}, {}, {Feature.UNREAD_NEGATIVE}),
        ({"cfg_scale": 1, "sampler_name": "euler_cfg_pp"}, {}, set()),
        ({"cfg_scale": 1.01}, {}, set()),
    ],
)
def test_a_request_has_exactly_the_features_it_asks_for(
    request_for: Build, payload: dict[str, Any], arguments: dict[str, Any], features: set[Feature]
) -> None:
    assert features_of(request_for(payload, **arguments)) == features | {Feature.OUTPUT}
