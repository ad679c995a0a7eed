from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from worker.errors import JobNotServable
from worker.workflows import packaged_folder
from worker.workflows.library import Library
from worker.workflows.request import LoraFile, RenderRequest, ServedModel, SourceImage
from worker.workflows.template_reader import read_fragment
from worker.workflows.template_selection import explain, select
from worker.workflows.types import Dialect, Family

from .conftest import FILES, FUSED, SPLIT

Build = Callable[..., RenderRequest]
SOURCE = SourceImage("source", 64, 64)


@pytest.mark.parametrize(
    ("family", "template"),
    [
        (Family.STABLE_DIFFUSION_1, "stable_diffusion/checkpoint"),
        (Family.STABLE_DIFFUSION_2_512, "stable_diffusion/checkpoint"),
        (Family.STABLE_DIFFUSION_2_768, "stable_diffusion/checkpoint"),
        (Family.STABLE_DIFFUSION_XL, "stable_diffusion/checkpoint"),
        (Family.FLUX_1, "flux/checkpoint"),
        (Family.FLUX_SCHNELL, "flux/checkpoint"),
        (Family.FLUX_DEV, "flux/checkpoint"),
        (Family.STABLE_CASCADE, "stable_cascade/two_stages"),
        (Family.QWEN_IMAGE, "qwen_image/split"),
        (Family.Z_IMAGE_TURBO, "z_image/split"),
    ],
)
def test_each_family_has_its_template(
    library: Library, request_for: Build, model: Callable[..., ServedModel], family: Family, template: str
) -> None:
    assert select(library, request_for(model=model(family, FILES[family]))).template.name == template


def test_a_model_in_several_files_has_another_template_than_one_in_one(
    library: Library, request_for: Build, model: Callable[..., ServedModel]
) -> None:
    plan = select(library, request_for(model=model(Family.FLUX_DEV, SPLIT)))
    assert plan.template.name == "flux/split"


def test_fragments_are_chosen_by_what_the_request_needs(library: Library, request_for: Build) -> None:
    plain = select(library, request_for())
    assert {fragment.when.value for fragment in plain.fragments[Dialect.PACK]} == {"output"}
    rich = request_for(
        {"hires_fix": True, "width": 768, "height": 768, "cfg_scale": 1}, loras=[LoraFile("a.safetensors")]
    )
    names = [fragment.name for fragment in select(library, rich).fragments[Dialect.PACK]]
    assert names[:3] == ["fragments/lora", "fragments/hires", "fragments/unread_negative"]


@pytest.mark.parametrize(
    ("payload", "arguments", "reason"),
    [
        ({}, {"family": Family.STABLE_CASCADE}, "the model has no file for stage_b and stage_c"),
        ({"workflow": "unheard_of"}, {}, "it is not for the workflow unheard_of"),
        ({"workflow": "qr_code"}, {"family": Family.FLUX_DEV}, "it is not for the workflow qr_code"),
        (
            {"control_type": "canny"},
            {"source": SOURCE, "family": Family.STABLE_DIFFUSION_XL},
            "there is no ControlNet for canny on stable_diffusion_xl",
        ),
        (
            {"control_type": "seg"},
            {"source": SOURCE, "family": Family.STABLE_DIFFUSION_2_768},
            "there is no ControlNet for seg on stable_diffusion_2_768",
        ),
        (
            {"control_type": "seg", "image_is_control": True},
            {"source": SOURCE, "family": Family.FLUX_SCHNELL},
            "there is no ControlNet for seg on flux_schnell",
        ),
        (
            {"control_type": "lineart"},
            {"source": SOURCE, "source_processing": "img2img"},
            "there is no ControlNet for lineart on stable_diffusion_1",
        ),
        (
            {"control_type": "lineart", "return_control_map": True},
            {"source": SOURCE, "source_processing": "img2img"},
            "it can't make a map of the kind lineart",
        ),
        (
            {"control_type": "canny"},
            {"source": SOURCE, "model": ServedModel("A", Family.STABLE_DIFFUSION_1, FUSED, inpainting=True)},
            "there is no ControlNet for canny on stable_diffusion_1 inpainting",
        ),
        ({}, {"model": ServedModel("A", Family.FLUX_1, {})}, "the model has no file for checkpoint"),
        (
            {},
            {"model": ServedModel("A", Family.FLUX_1, {"unet": "a"})},
            "the model has no file for text_encoder and text_encoder_2 and vae",
        ),
    ],
)
def test_what_no_template_serves_is_refused_with_reasons(
    library: Library, request_for: Build, payload: dict[str, Any], arguments: dict[str, Any], reason: str
) -> None:
    request = request_for(payload, **arguments)
    with pytest.raises(JobNotServable) as raised:
        select(library, request)
    assert reason in raised.value.message
    verdicts = explain(library, request)
    assert not any(verdict.serves for verdict in verdicts)
    assert any(reason in verdict.reasons for verdict in verdicts)


def test_every_template_has_a_verdict(library: Library, request_for: Build) -> None:
    verdicts = explain(library, request_for())
    assert [verdict.template for verdict in verdicts] == [template.name for template in library.templates]
    assert [verdict.template for verdict in verdicts if verdict.serves] == ["stable_diffusion/checkpoint"]


def test_a_template_that_is_switched_off_says_so(library: Library, request_for: Build) -> None:
    left = library.without({"stable_diffusion/checkpoint": ["its sampler is gone"]})
    assert explain(left, request_for())[-1].reasons == ("switched off: its sampler is gone",)
    with pytest.raises(JobNotServable, match="its sampler is gone"):
        select(left, request_for())


def test_without_a_speed_up_a_request_is_served_all_the_same(library: Library, request_for: Build) -> None:
    left = library.without({"fragments/unread_negative": ["x"]})
    assert select(left, request_for({"cfg_scale": 1})).template.name == "stable_diffusion/checkpoint"


def test_without_its_fragment_a_feature_is_not_served(library: Library, request_for: Build) -> None:
    left = library.without({"fragments/lora": ["x"]})
    with pytest.raises(JobNotServable, match="no fragment adds loras"):
        select(left, request_for(loras=[LoraFile("a.safetensors")]))


OWN = """
description: Nothing but noise.
serves: {families: [stable_diffusion_1], modes: [txt2img]}
nodes: {noise: EmptyImage}
bind: {noise.width: width, noise.height: height, noise.batch_size: batch}
ports: {image: noise.0}
outputs: [output]
ignores: [prompt, negative_prompt, seed, steps, cfg, sampler, scheduler, denoise, clip_skip]
"""
NOISE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
        "_meta": {"title": "noise"},
    },
    "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}, "_meta": {"title": "output"}},
}


@pytest.fixture
def with_own(folder: Callable[..., Path]) -> Callable[..., Library]:
    def load(old: str, new: str) -> Library:
        assert old in OWN
        own = folder("own/noise", OWN.replace(old, new), NOISE)
        library = Library.load(packaged_folder(), own, approved_classes={"EmptyImage"})
        assert library.violations == ()
        return library

    return load


def test_a_template_may_leave_a_feature_aside(with_own: Callable[..., Library], request_for: Build) -> None:
    library = with_own("ignores: [", "ignores: [tiling, ")
    assert select(library, request_for({"tiling": True})).template.name == "own/noise"


def test_a_template_that_does_a_feature_itself_is_for_such_requests_only(
    with_own: Callable[..., Library], request_for: Build
) -> None:
    library = with_own("modes: [txt2img]", "modes: [txt2img], features: [tiling]")
    assert select(library, request_for({"tiling": True})).template.name == "own/noise"
    assert select(library, request_for()).template.name == "stable_diffusion/checkpoint"
    assert "it is for requests with tiling only" in explain(library, request_for())[0].reasons


def test_a_template_for_a_workflow_takes_that_workflow_only(
    with_own: Callable[..., Library], request_for: Build
) -> None:
    library = with_own("modes: [txt2img]", "modes: [txt2img], workflows: [qr_code]")
    assert select(library, request_for({"workflow": "qr_code"})).template.name == "own/noise"
    assert select(library, request_for()).template.name == "stable_diffusion/checkpoint"
    assert "it is for the workflow qr_code only" in explain(library, request_for())[0].reasons


def test_a_template_for_a_model_takes_that_model_only(with_own: Callable[..., Library], request_for: Build) -> None:
    library = with_own("serves: {", "serves: {models: [Another], ")
    assert select(library, request_for()).template.name == "stable_diffusion/checkpoint"
    assert "it is for Another only" in explain(library, request_for())[0].reasons


def test_a_template_takes_only_requests_that_have_what_it_binds(
    with_own: Callable[..., Library], request_for: Build
) -> None:
    library = with_own(
        "families: [stable_diffusion_1], modes: [txt2img]}\nnodes: {noise: EmptyImage}\nbind: {",
        "families: [stable_diffusion_1, stable_diffusion_xl], modes: [txt2img], features: [picture, annotate, control]}"
        "\nnodes: {noise: EmptyImage}\nbind: {noise.color: control_file, ",
    )
    canny = {"control_type": "canny"}
    assert select(library, request_for(canny, source=SOURCE)).template.name == "own/noise"
    without_a_network = request_for(canny, Family.STABLE_DIFFUSION_XL, source=SOURCE)
    assert explain(library, without_a_network)[0].reasons == ("the job has no control_file",)


def test_a_fragment_needs_the_ports_it_takes(with_own: Callable[..., Library], request_for: Build) -> None:
    library = with_own("outputs", "outputs")
    with_lora = request_for(loras=[LoraFile("a.safetensors")])
    assert select(library, request_for()).template.name == "own/noise"
    assert select(library, with_lora).template.name == "stable_diffusion/checkpoint"
    assert explain(library, with_lora)[0].reasons == ("no fragment adds loras to it",)


def test_a_fragment_for_other_families_does_not_fit(
    folder: Callable[..., Path], request_for: Build, library: Library
) -> None:
    own = folder(
        "fragments/invert",
        "description: Inverts.\nwhen: strip_background\nfamilies: [flux_1]\norder: 500\nnodes: {invert: ImageInvert}\n"
        "in: {image: invert.image}\nout: {image: invert.0}",
        {"1": {"class_type": "ImageInvert", "inputs": {}, "_meta": {"title": "invert"}}},
    )
    with_invert = Library.load(packaged_folder(), own, approved_classes={"ImageInvert"})
    stripped = {"post_processing": ["strip_background"]}
    for family, name in (
        (Family.FLUX_1, "fragments/invert"),
        (Family.STABLE_DIFFUSION_1, "fragments/strip_background"),
    ):
        chosen = [each.name for each in select(with_invert, request_for(stripped, family)).fragments[Dialect.PACK]]
        assert name in chosen
        assert len(chosen) == len(select(library, request_for(stripped, family)).fragments[Dialect.PACK])


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize(
    ("manifest", "taken_by"),
    [
        ("order: 650", set(Dialect)),
        ("order: 750", set()),
        ("order: 650\ndialect: stock", {Dialect.STOCK}),
        ("order: 750\ndialect: stock", set()),
    ],
)
def test_each_dialect_takes_the_first_fragment_that_fits_it_and_no_second(
    folder: Callable[..., Path], request_for: Build, dialect: Dialect, manifest: str, taken_by: set[Dialect]
) -> None:
    own = folder(
        "fragments/larger",
        f"description: Larger.\nwhen: upscale\n{manifest}\nnodes: {{scale: ImageScale}}\n"
        "in: {image: scale.image}\nout: {image: scale.0}",
        {"1": {"class_type": "ImageScale", "inputs": {}, "_meta": {"title": "scale"}}},
    )
    plan = select(Library.load(packaged_folder(), own), request_for({"post_processing": ["NMKD_Siax"]}))
    [upscaler] = [each.name for each in plan.fragments[dialect] if each.when.value == "upscale"]
    assert (upscaler == "fragments/larger") is (dialect in taken_by)


def test_what_no_dialect_can_do_in_full_is_not_served(
    folder: Callable[..., Path], request_for: Build, library: Library
) -> None:
    left = library.without({"fragments/upscale": ["off"], "fragments/strip_background": ["off"]})
    own = folder(
        "fragments/strip",
        "description: Strips.\nwhen: strip_background\ndialect: pack\norder: 740\nnodes: {strip: ImageInvert}\n"
        "in: {image: strip.image}\nout: {image: strip.0}",
        {"1": {"class_type": "ImageInvert", "inputs": {}, "_meta": {"title": "strip"}}},
    )
    left = replace(left, fragments=(*left.fragments, read_fragment(own / "fragments" / "strip", "fragments/strip")))
    assert select(left, request_for({"post_processing": ["strip_background"]}))
    with pytest.raises(JobNotServable, match="no fragment adds upscale to it"):
        select(left, request_for({"post_processing": ["NMKD_Siax", "strip_background"]}))


def test_a_map_is_made_only_of_a_picture_that_is_none(library: Library, request_for: Build) -> None:
    asked = {"control_type": "canny"}
    made = select(library, request_for(asked, source=SOURCE)).fragments[Dialect.PACK]
    given = select(library, request_for({**asked, "image_is_control": True}, source=SOURCE)).fragments[Dialect.PACK]
    assert [each.name for each in made][1:3] == ["fragments/annotate", "fragments/control"]
    assert [each.name for each in given][1:2] == ["fragments/control_given"]


@pytest.mark.parametrize("family", list(Family))
def test_a_control_map_is_made_for_a_model_of_any_family(library: Library, request_for: Build, family: Family) -> None:
    payload = {"control_type": "seg", "return_control_map": True, "hires_fix": True, "width": 2048, "height": 2048}
    request = request_for(payload, family, source=SOURCE)
    assert select(library, request).template.name == "control/map"
    assert (request.first_width, request.first_height) == (2048, 2048)


def test_the_reasons_are_those_of_templates_for_the_family(library: Library, request_for: Build) -> None:
    with pytest.raises(JobNotServable) as raised:
        select(library, request_for({"workflow": "unheard_of"}))
    assert "stable_diffusion/checkpoint: it is not for the workflow unheard_of" in raised.value.message
    assert "flux" not in raised.value.message
    assert "workflows explain" in raised.value.remedy


def test_however_many_templates_are_switched_off_the_reason_is_one_short_sentence(
    library: Library, request_for: Build
) -> None:
    left = library.without({template.name: ["its sampler is gone. " * 50] for template in library.templates})
    with pytest.raises(JobNotServable, match=r"switched off .its sampler is gone.* and [0-9]+ more") as raised:
        select(left, request_for())
    assert len(raised.value.message) < 320
