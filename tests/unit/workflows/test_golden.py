"""The exact graph of every case, committed.

After a change on purpose: pytest tests/unit/workflows --snapshot-update
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from worker.demo.engine.graph import Size, Workflow
from worker.errors import JobNotServable
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.request import (
    Embedding,
    EmbeddingTarget,
    ExtraSource,
    LoraFile,
    RenderRequest,
    ServedModel,
    SourceImage,
)
from worker.workflows.template_selection import select
from worker.workflows.types import Dialect, Family

from .conftest import CASCADE, FILES, FUSED, NODES, ONE_ENCODER, SPLIT

GOLDEN = Path(__file__).with_name("golden")
PAYLOAD = {
    "prompt": "a red fox in the snow ### blurry, text",
    "ddim_steps": 20,
    "n_iter": 1,
    "seed": "1234567890",
    "sampler_name": "k_euler_a",
    "cfg_scale": 7.5,
    "width": 512,
    "height": 512,
    "karras": True,
}
LORAS = (
    LoraFile("elf_1.safetensors", 0.8, 0.9, "any", ("elf", "elven")),
    LoraFile("orc_2.safetensors", -0.5, 1.0),
)


@dataclass(frozen=True)
class Case:
    family: Family
    payload: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=lambda: FUSED)
    dialect: Dialect = Dialect.PACK
    inpainting: bool = False

    @property
    def model(self) -> ServedModel:
        return ServedModel("A Model", self.family, self.files, self.inpainting)


SD1, SDXL, SCHNELL, DEV = (
    Family.STABLE_DIFFUSION_1,
    Family.STABLE_DIFFUSION_XL,
    Family.FLUX_SCHNELL,
    Family.FLUX_DEV,
)
SD2, CASCADE_1, QWEN, Z_IMAGE = (
    Family.STABLE_DIFFUSION_2_768,
    Family.STABLE_CASCADE,
    Family.QWEN_IMAGE,
    Family.Z_IMAGE_TURBO,
)
PICTURE = SourceImage("job-0", 640, 480)
CUT_OUT = SourceImage("job-0", 640, 480, has_alpha=True)
FROM_PICTURE = {"source": PICTURE, "source_processing": "img2img"}
MASKED = {"source": CUT_OUT, "source_processing": "img2img"}
LORAS_FROM = {**FROM_PICTURE, "loras": LORAS}
INPAINTING = {"source": CUT_OUT, "source_processing": "inpainting"}
OUTPAINTING = {"source": CUT_OUT, "source_processing": "outpainting"}
REMIX = {"source": PICTURE, "source_processing": "remix"}
TWO_EXTRAS = {"extra_sources": [ExtraSource(SourceImage("job-1", 8, 8), 0.7), ExtraSource(SourceImage("job-2", 8, 8))]}
HALF = {"denoising_strength": 0.5}
LARGE = {"width": 1024, "height": 1024}
EVERYTHING_AFTER = {"post_processing": ["GFPGAN", "RealESRGAN_x2plus", "strip_background"], "n_iter": 2}
FEW_STEPS = {"cfg_scale": 1, "ddim_steps": 4, "sampler_name": "k_euler", "width": 1024, "height": 1024}
CASES = {
    "sd1": Case(SD1),
    "sd1_stock": Case(SD1, dialect=Dialect.STOCK),
    "sd1_batch": Case(SD1, {"n_iter": 3, "seed": "63"}),
    "sd1_clip_skip": Case(SD1, {"clip_skip": 2}),
    "sd1_dpmsolver_normal": Case(SD1, {"sampler_name": "dpmsolver", "karras": False}),
    "sd1_lcm": Case(SD1, {"sampler_name": "lcm", "cfg_scale": 1, "ddim_steps": 8}),
    "sd1_wildcards": Case(SD1, {"prompt": "a {red|{blue|green}} fox"}),
    "sd1_loras": Case(SD1, arguments={"loras": LORAS}),
    "sd1_embeddings": Case(
        SD1,
        arguments={
            "embeddings": [
                Embedding("7808", 0.9, EmbeddingTarget.NEGATIVE),
                Embedding("72437", 1.0, EmbeddingTarget.PROMPT),
            ]
        },
    ),
    "sd1_hires": Case(SD1, {"hires_fix": True, "width": 768, "height": 768}),
    "sd2_512": Case(Family.STABLE_DIFFUSION_2_512),
    "sd2_768": Case(Family.STABLE_DIFFUSION_2_768, {"width": 768, "height": 768}),
    "sdxl": Case(SDXL, {"width": 1024, "height": 1024}),
    "sdxl_hires_loras": Case(
        SDXL, {"hires_fix": True, "width": 1152, "height": 1536, "clip_skip": 2}, {"loras": LORAS[:1]}
    ),
    "flux": Case(Family.FLUX_1, FEW_STEPS),
    "flux_schnell_loras": Case(SCHNELL, FEW_STEPS, {"loras": LORAS}),
    "flux_dev": Case(DEV, {**FEW_STEPS, "cfg_scale": 3.5, "ddim_steps": 20, "n_iter": 2}),
    "flux_split": Case(DEV, {**FEW_STEPS, "cfg_scale": 3.5, "ddim_steps": 20}, files=SPLIT),
    "flux_split_loras_stock": Case(SCHNELL, FEW_STEPS, {"loras": LORAS}, SPLIT, Dialect.STOCK),
    "sd1_img2img": Case(SD1, HALF, FROM_PICTURE),
    "sd1_img2img_batch": Case(SD1, {**HALF, "n_iter": 3}, FROM_PICTURE),
    "sd1_img2img_hires_loras": Case(
        SD1, {**HALF, "hires_fix": True, "width": 768, "height": 768}, {**FROM_PICTURE, "loras": LORAS}
    ),
    "sd1_mask": Case(SD1, HALF, MASKED),
    "sd1_mask_batch": Case(SD1, {**HALF, "n_iter": 2}, MASKED),
    "sd1_inpaint": Case(SD1, {}, INPAINTING),
    "sd1_inpaint_batch_loras": Case(SD1, {"n_iter": 2}, {**INPAINTING, "loras": LORAS}),
    "sd1_inpaint_model": Case(SD1, {}, INPAINTING, inpainting=True),
    "sd1_inpaint_model_batch_loras": Case(SD1, {"n_iter": 2}, {**INPAINTING, "loras": LORAS}, inpainting=True),
    "sd1_inpaint_model_batch_lcm": Case(
        SD1, {"n_iter": 2, "cfg_scale": 1, "sampler_name": "lcm"}, OUTPAINTING, inpainting=True
    ),
    "sd2_outpaint": Case(SD2, {"width": 768, "height": 768}, OUTPAINTING),
    "sdxl_img2img": Case(SDXL, {**HALF, **LARGE}, FROM_PICTURE),
    "sdxl_img2img_hires": Case(SDXL, {**HALF, "hires_fix": True, "width": 1536, "height": 1536}, FROM_PICTURE),
    "sdxl_mask": Case(SDXL, {**HALF, **LARGE}, MASKED),
    "sdxl_outpaint": Case(SDXL, LARGE, OUTPAINTING),
    "sd1_control_batch": Case(SD1, {"control_type": "hough", "control_strength": 0.7, "n_iter": 2}, FROM_PICTURE),
    "sd1_control_given_loras": Case(
        SD1, {"control_type": "seg", "image_is_control": True, "clip_skip": 2}, {**FROM_PICTURE, "loras": LORAS}
    ),
    "sd1_control_hires": Case(
        SD1, {"control_type": "canny", "hires_fix": True, "width": 768, "height": 768, "cfg_scale": 1}, FROM_PICTURE
    ),
    "sd2_control": Case(SD2, {"control_type": "fakescribbles"}, FROM_PICTURE),
    "sdxl_control_map_batch": Case(
        SDXL, {"control_type": "depth", "return_control_map": True, "n_iter": 2, "hires_fix": True}, FROM_PICTURE
    ),
    "qr_code_sdxl": Case(
        SDXL, {**LARGE, "workflow": "qr_code", "extra_texts": [{"text": "https://aihorde.net", "reference": "qr_code"}]}
    ),
    "qr_code_sd1_loras_batch": Case(
        SD1, {"workflow": "qr_code", "n_iter": 2, "control_strength": 0.8, "clip_skip": 2}, {"loras": LORAS}
    ),
    "flux_control_loras": Case(DEV, {**FEW_STEPS, "control_type": "depth"}, {**FROM_PICTURE, "loras": LORAS}),
    "flux_control_given": Case(SCHNELL, {**FEW_STEPS, "control_type": "hed", "image_is_control": True}, FROM_PICTURE),
    "flux_split_control_batch": Case(
        DEV, {**FEW_STEPS, "control_type": "openpose", "control_strength": 0.6, "n_iter": 2}, FROM_PICTURE, SPLIT
    ),
    "flux_split_control_given_batch": Case(
        SCHNELL, {**FEW_STEPS, "control_type": "canny", "image_is_control": True, "n_iter": 2}, FROM_PICTURE, SPLIT
    ),
    "flux_img2img_batch": Case(SCHNELL, {**FEW_STEPS, **HALF, "n_iter": 2}, FROM_PICTURE),
    "flux_hires_is_ignored": Case(SCHNELL, {**FEW_STEPS, "hires_fix": True, "width": 1536, "height": 1536}),
    "flux_split_img2img": Case(DEV, {**FEW_STEPS, **HALF}, FROM_PICTURE, SPLIT),
    "flux_split_inpaint": Case(DEV, FEW_STEPS, INPAINTING, SPLIT),
    "cascade": Case(CASCADE_1, {**LARGE, "cfg_scale": 4}, files=CASCADE),
    "cascade_loras": Case(CASCADE_1, {**LARGE, "cfg_scale": 4}, {"loras": LORAS}, CASCADE),
    "cascade_hires": Case(CASCADE_1, {"hires_fix": True, "width": 1536, "height": 1024, "cfg_scale": 4}, files=CASCADE),
    "cascade_img2img_batch": Case(CASCADE_1, {**LARGE, **HALF, "n_iter": 2}, FROM_PICTURE, CASCADE),
    "cascade_img2img_hires_loras": Case(
        CASCADE_1, {**LARGE, **HALF, "hires_fix": True}, {**FROM_PICTURE, "loras": LORAS[:1]}, CASCADE
    ),
    "cascade_inpaint_batch": Case(CASCADE_1, {**LARGE, "n_iter": 2}, INPAINTING, CASCADE),
    "cascade_remix": Case(CASCADE_1, LARGE, REMIX, CASCADE),
    "cascade_remix_extras": Case(CASCADE_1, LARGE, {**REMIX, **TWO_EXTRAS}, CASCADE),
    "cascade_remix_extras_hires_cfg_1": Case(
        CASCADE_1, {**LARGE, "hires_fix": True, "cfg_scale": 1}, {**REMIX, **TWO_EXTRAS}, CASCADE
    ),
    "qwen": Case(QWEN, {**LARGE, "cfg_scale": 2.5}, files=ONE_ENCODER),
    "qwen_loras": Case(QWEN, {**LARGE, "cfg_scale": 2.5}, {"loras": LORAS}, ONE_ENCODER),
    "qwen_img2img_batch": Case(QWEN, {**LARGE, **HALF, "n_iter": 2}, FROM_PICTURE, ONE_ENCODER),
    "qwen_inpaint": Case(QWEN, LARGE, INPAINTING, ONE_ENCODER),
    **{
        f"{name}_{case}": Case(family, {**FEW_STEPS, **payload}, arguments, ONE_ENCODER)
        for name, family in (("anima", Family.ANIMA), ("krea2", Family.KREA2_TURBO))
        for case, payload, arguments in (
            ("plain", {"sampler_name": "er_sde"}, {}),
            ("img2img", HALF, FROM_PICTURE),
            ("mask", {**HALF, "cfg_scale": 1.0}, MASKED),
            ("outpaint_batch", {"n_iter": 2}, OUTPAINTING),
            ("hires_loras_batch", {**HALF, "width": 1536, "height": 1152, "hires_fix": True, "n_iter": 2}, LORAS_FROM),
            ("post_processing", EVERYTHING_AFTER, {}),
        )
    },
    "sd1_sampler_options_hires": Case(
        SD1,
        {"sampler_eta": 0.5, "sampler_s_noise": 1.05, "scheduler": "align_your_steps", "hires_fix": True, **LARGE},
        {"loras": LORAS},
    ),
    "sd1_adaptive_control": Case(
        SD1, {"sampler_name": "k_dpm_adaptive", "sampler_order": 2, "control_type": "canny"}, FROM_PICTURE
    ),
    "sd1_adaptive_stock": Case(
        SD1, {"sampler_name": "k_dpm_adaptive", "scheduler": "gits", "sampler_order": 2}, dialect=Dialect.STOCK
    ),
    "cascade_sampler_options": Case(Family.STABLE_CASCADE, {"sampler_eta": 0.5, "flow_shift": 3}, files=CASCADE),
    "flux_flow_shift_options": Case(
        SCHNELL, {**FEW_STEPS, "flow_shift": 1.5, "sampler_s_noise": 1.1, "sampler_name": "lcm"}, {"loras": LORAS}
    ),
    "flux_split_flow_shift": Case(SCHNELL, {**FEW_STEPS, "flow_shift": 999, "sampler_s_churn": 3}, files=SPLIT),
    "qwen_flow_shift_options": Case(
        Family.QWEN_IMAGE, {**FEW_STEPS, "flow_shift": 5, "sampler_s_churn": 3}, {"loras": LORAS}, ONE_ENCODER
    ),
    "z_image_flow_shift_options": Case(
        Z_IMAGE, {**FEW_STEPS, "flow_shift": 0, "sampler_s_churn": 3}, {"loras": LORAS}, ONE_ENCODER
    ),
    "anima_flow_shift_options": Case(
        Family.ANIMA, {**FEW_STEPS, "flow_shift": 4, "sampler_s_churn": 3}, files=ONE_ENCODER
    ),
    "krea2_flow_shift_options": Case(
        Family.KREA2_TURBO, {**FEW_STEPS, "flow_shift": 4, "sampler_s_churn": 3}, files=ONE_ENCODER
    ),
    "z_image": Case(Z_IMAGE, {**FEW_STEPS, "ddim_steps": 9}, files=ONE_ENCODER),
    "z_image_scheduler_loras": Case(
        Z_IMAGE, {**FEW_STEPS, "ddim_steps": 9, "scheduler": "beta"}, {"loras": LORAS}, ONE_ENCODER
    ),
    "z_image_img2img": Case(Z_IMAGE, {**FEW_STEPS, **HALF, "ddim_steps": 9}, FROM_PICTURE, ONE_ENCODER),
    "z_image_mask": Case(Z_IMAGE, {**FEW_STEPS, **HALF, "ddim_steps": 9}, MASKED, ONE_ENCODER),
    "sd1_lcm_mask_hires_is_ignored": Case(
        SD1, {**HALF, **LARGE, "hires_fix": True, "cfg_scale": 1, "sampler_name": "lcm"}, MASKED
    ),
    "flux_mask_loras": Case(SCHNELL, {**FEW_STEPS, **HALF}, {**MASKED, "loras": LORAS}),
    "flux_split_mask_batch_loras": Case(DEV, {**FEW_STEPS, **HALF, "n_iter": 2}, {**MASKED, "loras": LORAS}, SPLIT),
    "flux_split_outpaint_batch": Case(DEV, {**FEW_STEPS, "n_iter": 2}, OUTPAINTING, SPLIT),
    "cascade_mask_batch_cfg_1": Case(CASCADE_1, {**LARGE, "n_iter": 2, "cfg_scale": 1}, MASKED, CASCADE),
    "qwen_mask_batch_cfg_1": Case(QWEN, {**LARGE, "n_iter": 2, "cfg_scale": 1}, MASKED, ONE_ENCODER),
    "z_image_outpaint_batch": Case(Z_IMAGE, {**FEW_STEPS, "ddim_steps": 9, "n_iter": 2}, OUTPAINTING, ONE_ENCODER),
    "flux_post_processing": Case(SCHNELL, {**FEW_STEPS, **EVERYTHING_AFTER}),
    "flux_split_post_processing": Case(DEV, {**FEW_STEPS, **EVERYTHING_AFTER}, files=SPLIT),
    "cascade_hires_post_processing": Case(CASCADE_1, {**LARGE, **EVERYTHING_AFTER, "hires_fix": True}, files=CASCADE),
    "qwen_post_processing": Case(QWEN, {**LARGE, **EVERYTHING_AFTER}, files=ONE_ENCODER),
    "z_image_post_processing": Case(Z_IMAGE, {**FEW_STEPS, **EVERYTHING_AFTER}, files=ONE_ENCODER),
    "sd1_face_fix": Case(SD1, {"post_processing": ["CodeFormers"], "facefixer_strength": 0.7}),
    "sd1_strip_background": Case(SD1, {"post_processing": ["strip_background"]}),
    "sdxl_post_processing": Case(
        SDXL, {"n_iter": 2, "post_processing": ["strip_background", "NMKD_Siax", "GFPGAN", "RestoreFormer"]}
    ),
    "sd1_tiling_hires_loras": Case(
        SD1, {"tiling": True, "hires_fix": True, "width": 1024, "height": 768}, {"loras": LORAS}
    ),
    "sd1_transparent_tiling": Case(SD1, {"transparent": True, "tiling": True}),
    "sdxl_transparent_hires_loras": Case(
        SDXL, {"transparent": True, "hires_fix": True, "width": 1536, "height": 1536}, {"loras": LORAS}
    ),
    "sd1_upscale": Case(SD1, {"n_iter": 2, "post_processing": ["RealESRGAN_x4plus"]}),
    "sd1_upscale_stock": Case(SD1, {"post_processing": ["4x_AnimeSharp"]}, dialect=Dialect.STOCK),
}


@pytest.mark.parametrize("name", CASES)
def test_the_graph_is_the_one_we_know(
    name: str, library: Library, request_for: Callable[..., RenderRequest], pytestconfig: pytest.Config
) -> None:
    case = CASES[name]
    request = request_for({**PAYLOAD, **case.payload}, model=case.model, **case.arguments)
    rendered = materialise(select(library, request), request, dialect=case.dialect)
    text = json.dumps({"outputs": rendered.outputs, "graph": rendered.graph}, indent=1, ensure_ascii=False) + "\n"
    file = GOLDEN / f"{name}.json"
    if pytestconfig.getoption("--snapshot-update", default=False):
        file.write_text(text, "utf-8")
    assert file.is_file(), "a new case: pytest tests/unit/workflows --snapshot-update"
    assert text == file.read_text("utf-8")


def test_no_golden_graph_is_stale(pytestconfig: pytest.Config) -> None:
    stale = {file.stem for file in GOLDEN.glob("*.json")} - set(CASES)
    if pytestconfig.getoption("--snapshot-update", default=False):
        for name in stale:
            (GOLDEN / f"{name}.json").unlink()
        return
    assert stale == set()


def test_every_template_and_fragment_occurs_in_a_golden_graph(
    library: Library, request_for: Callable[..., RenderRequest]
) -> None:
    used: set[str] = set()
    for case in CASES.values():
        request = request_for({**PAYLOAD, **case.payload}, model=case.model, **case.arguments)
        plan = select(library, request)
        used.add(plan.template.name)
        used.update(each.name for each in plan.fragments[case.dialect])
    assert used == {piece.name for piece in (*library.templates, *library.fragments)}


def every_request(request_for: Callable[..., RenderRequest]) -> Iterator[RenderRequest]:
    """One of each kind that occurs: families and their files, what is done with a picture, batches, additions."""
    models = [
        *(ServedModel("m", family, FILES[family]) for family in Family),
        *(ServedModel("m", family, SPLIT) for family in (Family.FLUX_1, SCHNELL, DEV)),
        *(ServedModel("m", family, FUSED, inpainting=True) for family in (SD1, SD2, SDXL)),
    ]
    pictures = ({}, FROM_PICTURE, MASKED, INPAINTING, OUTPAINTING, {**REMIX, **TWO_EXTRAS})
    for model, picture, batch, hires, cfg, loras in itertools.product(
        models, pictures, (1, 2), (False, True), (1, 5), ((), LORAS)
    ):
        payload = {"width": 1152, "height": 1152, "n_iter": batch, "hires_fix": hires, "cfg_scale": cfg}
        yield request_for(payload, model=model, loras=loras, **picture)
    additions = (
        {"tiling": True},
        {"transparent": True},
        {"control_type": "canny"},
        {"control_type": "canny", "image_is_control": True},
        {"control_type": "canny", "return_control_map": True},
        {"post_processing": ["GFPGAN", "NMKD_Siax", "strip_background"]},
        {"workflow": "qr_code"},
    )
    for model, addition in itertools.product(models, additions):
        yield request_for(addition, model=model, **(FROM_PICTURE if "control_type" in addition else {}))


def pairs(library: Library, request: RenderRequest) -> set[tuple[str, str]]:
    """None where no template does what is asked."""
    try:
        plan = select(library, request)
    except JobNotServable:
        return set()
    return {(plan.template.name, fragment.name) for fragments in plan.fragments.values() for fragment in fragments}


def test_every_pair_of_template_and_fragment_that_occurs_is_in_a_golden_graph(
    library: Library, request_for: Callable[..., RenderRequest]
) -> None:
    occurring = set[tuple[str, str]]().union(*(pairs(library, each) for each in every_request(request_for)))
    known: set[tuple[str, str]] = set()
    for case in CASES.values():
        known |= pairs(library, request_for({**PAYLOAD, **case.payload}, model=case.model, **case.arguments))
    assert occurring - known == set()


@pytest.mark.parametrize("name", CASES)
def test_what_comes_out_has_the_size_and_the_number_that_were_asked_for(
    name: str, library: Library, request_for: Callable[..., RenderRequest]
) -> None:
    case = CASES[name]
    request = request_for({**PAYLOAD, **case.payload}, model=case.model, **case.arguments)
    rendered = materialise(select(library, request), request, dialect=case.dialect)
    handed_in = {"job-0": Size(request.first_width, request.first_height)}
    [output] = rendered.outputs
    size = Workflow(rendered.graph, NODES[case.model.family]).size(output, handed_in)
    assert size == Size(request.width, request.height, request.batch)
