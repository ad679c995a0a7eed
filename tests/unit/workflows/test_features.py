from collections.abc import Callable
from typing import Any

import pytest

from worker.workflows.features import features_of
from worker.workflows.request import ExtraSource, LoraFile, RenderRequest, ServedModel, SourceImage
from worker.workflows.types import Family, Feature

Build = Callable[..., RenderRequest]
SOURCE = SourceImage("source", 64, 64)
MASKED = SourceImage("masked", 64, 64, has_alpha=True)
PAINTED = {"source": SOURCE, "source_processing": "img2img"}
REPAINTED = {"source": MASKED, "source_processing": "inpainting"}
INPAINTING_MODEL = ServedModel("m", Family.STABLE_DIFFUSION_1, {}, inpainting=True)


@pytest.mark.parametrize(
    ("payload", "arguments", "features"),
    [
        ({}, {}, set()),
        ({}, {"loras": [LoraFile("a.safetensors")]}, {Feature.LORAS}),
        ({"hires_fix": True, "width": 768, "height": 768}, {}, {Feature.HIRES}),
        ({"tiling": True, "transparent": True}, {}, {Feature.TILING, Feature.TRANSPARENT}),
        ({}, PAINTED, {Feature.PICTURE, Feature.SOURCE}),
        ({"n_iter": 64}, PAINTED, {Feature.PICTURE, Feature.SOURCE, Feature.REPEAT}),
        ({"n_iter": 64}, {}, set()),
        ({}, {**PAINTED, "source": MASKED}, {Feature.PICTURE, Feature.SOURCE, Feature.MASK}),
        ({}, REPAINTED, {Feature.PICTURE, Feature.INPAINT}),
        (
            {"n_iter": 2},
            {**REPAINTED, "source_processing": "outpainting"},
            {Feature.PICTURE, Feature.INPAINT, Feature.REPEAT},
        ),
        ({}, {**REPAINTED, "family": Family.STABLE_DIFFUSION_XL}, {Feature.PICTURE, Feature.INPAINT}),
        ({}, {**REPAINTED, "family": Family.FLUX_1}, {Feature.PICTURE, Feature.SOURCE, Feature.MASK}),
        ({}, {**REPAINTED, "family": Family.STABLE_CASCADE}, {Feature.PICTURE, Feature.SOURCE, Feature.MASK}),
        ({}, {**REPAINTED, "model": INPAINTING_MODEL}, {Feature.PICTURE, Feature.INPAINT_MODEL}),
        ({}, {"source": MASKED, "model": INPAINTING_MODEL}, {Feature.PICTURE, Feature.INPAINT_MODEL}),
        ({}, {"model": INPAINTING_MODEL}, set()),
        ({"control_type": "canny"}, PAINTED, {Feature.PICTURE, Feature.ANNOTATE, Feature.CONTROL}),
        ({"control_type": "canny", "image_is_control": True}, PAINTED, {Feature.PICTURE, Feature.CONTROL}),
        ({"control_type": "canny", "return_control_map": True}, PAINTED, {Feature.PICTURE, Feature.CONTROL_MAP}),
        (
            {},
            {
                "family": Family.STABLE_CASCADE,
                "source": SOURCE,
                "source_processing": "remix",
                "extra_sources": [ExtraSource(SOURCE)],
            },
            {Feature.PICTURE, Feature.REMIX, Feature.EXTRA_SOURCES},
        ),
        (
            {"post_processing": ["GFPGAN", "NMKD_Siax", "strip_background"]},
            {},
            {Feature.FACE_FIX, Feature.UPSCALE, Feature.STRIP_BACKGROUND},
        ),
        ({"cfg_scale": 1}, {}, {Feature.UNREAD_NEGATIVE}),
        ({"cfg_scale": 1, "sampler_name": "euler_cfg_pp"}, {}, set()),
        ({"cfg_scale": 1.01}, {}, set()),
        (
            {"cfg_scale": 1, "hires_fix": True, "width": 2048, "height": 2048},
            {"family": Family.STABLE_CASCADE},
            {Feature.HIRES},
        ),
        (
            {"cfg_scale": 1, "hires_fix": True, "width": 2048, "height": 2048},
            {"family": Family.STABLE_DIFFUSION_XL},
            {Feature.HIRES, Feature.UNREAD_NEGATIVE},
        ),
    ],
)
def test_a_request_has_exactly_the_features_it_asks_for(
    request_for: Build, payload: dict[str, Any], arguments: dict[str, Any], features: set[Feature]
) -> None:
    assert features_of(request_for(payload, **arguments)) == features | {Feature.OUTPUT}
