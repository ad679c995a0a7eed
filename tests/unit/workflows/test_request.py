from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.workflows.payload import embedding_wishes, lora_wishes, read_request
from worker.workflows.request import (
    Embedding,
    EmbeddingTarget,
    EmbeddingWish,
    ExtraSource,
    ExtraText,
    GenMetadataNote,
    LoraFile,
    LoraWish,
    RenderRequest,
    ServedModel,
    SourceImage,
)
from worker.workflows.types import Family, Mode

Build = Callable[..., RenderRequest]
SOURCE = SourceImage("source", 1000, 300)
MASKED = SourceImage("masked", 1000, 300, has_alpha=True)


@pytest.mark.parametrize(
    ("field", "payload", "expected"),
    [
        ("steps", {}, 30),
        ("steps", {"ddim_steps": 0}, 1),
        ("steps", {"ddim_steps": 501}, 500),
        ("steps", {"ddim_steps": "20"}, 20),
        ("cfg", {}, 8.0),
        ("cfg", {"cfg_scale": 0}, 1.0),
        ("cfg", {"cfg_scale": 101}, 100.0),
        ("width", {"width": 1000}, 1024),
        ("height", {"height": 9000}, 8192),
        ("height", {"height": 1}, 64),
        ("batch", {}, 1),
        ("batch", {"n_iter": 3}, 3),
        ("batch", {"n_iter": 101}, 64),
        ("clip_skip", {}, 1),
        ("clip_skip", {"clip_skip": 2}, 2),
        ("clip_skip", {"clip_skip": 21}, 20),
        ("sampler", {"sampler_name": "DDIM"}, "ddim"),
        ("scheduler", {"karras": True}, "karras"),
        ("scheduler", {"karras": False}, "normal"),
        ("scheduler", {"karras": "false"}, "normal"),
        ("scheduler", {"karras": True, "scheduler": "simple"}, "simple"),
        ("tiling", {"tiling": True}, True),
        ("transparent", {"transparent": True}, True),
        ("control_strength", {"control_strength": 5}, 3.0),
        ("face_fixer_strength", {"facefixer_strength": 0.6}, 0.6),
        ("face_fixer_strength", {"facefixer_strength": 2}, 1.0),
        ("workflow", {"workflow": "QR_code"}, "qr_code"),
        ("workflow", {"workflow": "auto_detect"}, ""),
        ("workflow", {"workflow": None}, ""),
        ("negative_prompt", {"prompt": "a fox ### bad"}, " bad"),
        ("negative_prompt", {"prompt": "a fox", "negative_prompt": "ugly"}, "ugly"),
        ("negative_prompt", {"prompt": "a fox ### bad", "negative_prompt": "ugly"}, " bad"),
        (
            "extra_texts",
            {"extra_texts": [{"text": "https://example.com", "reference": "QR_code"}, {"reference": "x_offset"}]},
            (ExtraText("https://example.com", "qr_code"),),
        ),
    ],
)
def test_a_field_is_read_and_clamped(request_for: Build, field: str, payload: dict[str, Any], expected: object) -> None:
    assert getattr(request_for(payload), field) == expected


@pytest.mark.parametrize(
    ("strength", "expected"),
    [({}, 1.0), ({"denoising_strength": 0}, 0.01), ({"denoising_strength": 0.75}, 0.75),
     ({"denoising_strength": None}, 1.0)],
)  # fmt: skip
@pytest.mark.parametrize("over", [{"source_processing": "img2img"}, {"control_type": "canny"}], ids=str)
def test_how_much_of_a_picture_is_painted_over_is_read_and_clamped(
    request_for: Build, over: dict[str, Any], strength: dict[str, Any], expected: float
) -> None:
    processing = over.get("source_processing", "txt2img")
    payload = {**strength, **over}
    assert request_for(payload, source=SOURCE, source_processing=processing).denoise == expected


@pytest.mark.parametrize("processing", ["txt2img", "img2img", "inpainting", "remix"])
def test_without_a_picture_everything_is_painted_whatever_strength_is_asked_for(
    request_for: Build, processing: str
) -> None:
    assert request_for({"denoising_strength": 0.3}, source_processing=processing).denoise == 1.0


def test_a_picture_that_is_not_to_be_painted_over_does_not_dim_the_new_one(request_for: Build) -> None:
    assert request_for({"denoising_strength": 0.3}, source=SOURCE, source_processing="txt2img").denoise == 1.0


def test_a_lost_picture_of_a_controlnet_leaves_a_whole_new_one(request_for: Build) -> None:
    assert request_for({"denoising_strength": 0.3, "control_type": "canny"}).denoise == 1.0


@pytest.mark.parametrize(("stand_in", "expected"), [(True, 1.0), (False, 0.3)])
def test_noise_in_place_of_a_picture_does_not_shine_through(
    request_for: Build, stand_in: bool, expected: float
) -> None:
    source = replace(MASKED, stand_in=stand_in)
    model = ServedModel("paints", Family.STABLE_DIFFUSION_1, {"checkpoint": "m.safetensors"}, inpainting=True)
    assert read_request({"denoising_strength": 0.3}, model=model, source=source).denoise == expected


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        ("1234567890", 1234567890),
        (str(2**64 - 1), 2**64 - 1),
        (str(2**64), 0),
        ("-1", 2**64 - 1),
        (63, 63),
        (" 7 ", 7),
    ],
)
def test_the_seed_is_a_decimal_text_of_64_bits(request_for: Build, seed: object, expected: int) -> None:
    assert request_for({"seed": seed}).seed == expected


@pytest.mark.parametrize("seed", [None, "", "abc", "1.5", [], float("inf"), "9" * 5000])
def test_a_senseless_seed_differs_from_job_to_job_but_not_from_try_to_try(request_for: Build, seed: object) -> None:
    payload = {"seed": seed, "prompt": "a fox"}
    assert request_for(payload).seed == request_for(payload).seed
    assert request_for(payload).seed != request_for({**payload, "prompt": "a dog"}).seed


def test_wildcards_are_for_the_positive_prompt_only(request_for: Build) -> None:
    request = request_for({"prompt": "a {red} fox ### a {blue} dog"})
    assert (request.prompt, request.negative_prompt) == ("a red fox ", " a {blue} dog")


def test_embeddings_and_triggers_are_written_after_the_wildcards_are_drawn(request_for: Build) -> None:
    request = request_for(
        {"prompt": "a {fox} ### bad"},
        embeddings=[
            Embedding("1", 0.8, EmbeddingTarget.PROMPT),
            Embedding("2", 0.9, EmbeddingTarget.NEGATIVE),
            Embedding("3"),
        ],
        loras=[
            LoraFile("a.safetensors", trigger="all", words=("{elf}", "orc")),
            LoraFile("b.safetensors", trigger="any", words=("b",)),
        ],
    )
    assert request.prompt == "b, {elf}, orc, (embedding:1:0.8),a fox "
    assert request.negative_prompt == " bad,(embedding:2:0.9)"


def test_a_lora_without_any_strength_is_left_out(request_for: Build) -> None:
    loras = [LoraFile("a", 0, 0), LoraFile("b", 0, 0.5), LoraFile("c", -1, 0)]
    assert [lora.file for lora in request_for(loras=loras).loras] == ["b", "c"]


def test_lora_wishes_are_clamped_and_the_nameless_dropped() -> None:
    payload = {
        "loras": [
            {"name": "82098", "model": 0.8, "clip": 11, "inject_trigger": "any", "is_version": False},
            {"name": 87153, "is_version": True},
            {"model": 1},
            {"name": " "},
            "x",
        ]
    }
    assert lora_wishes(payload) == (
        LoraWish("82098", 0.8, 10.0, "any"),
        LoraWish("87153", is_version=True),
    )
    assert lora_wishes({"loras": None}) == ()


def test_embedding_wishes_are_clamped_and_the_nameless_dropped() -> None:
    payload = {
        "tis": [{"name": "7808", "inject_ti": "negprompt", "strength": -11}, {"name": "1", "inject_ti": "x"}, {}]
    }
    assert embedding_wishes(payload) == (
        EmbeddingWish("7808", -10.0, EmbeddingTarget.NEGATIVE),
        EmbeddingWish("1"),
    )


@pytest.mark.parametrize(
    ("processing", "source", "family", "mode"),
    [
        ("img2img", None, Family.STABLE_DIFFUSION_1, Mode.TXT2IMG),
        ("img2img", SOURCE, Family.STABLE_DIFFUSION_1, Mode.IMG2IMG),
        ("img2img", MASKED, Family.STABLE_DIFFUSION_1, Mode.IMG2IMG),
        ("Inpainting", MASKED, Family.STABLE_DIFFUSION_1, Mode.INPAINTING),
        ("outpainting", MASKED, Family.STABLE_DIFFUSION_XL, Mode.OUTPAINTING),
        ("txt2img", SOURCE, Family.STABLE_DIFFUSION_1, Mode.TXT2IMG),
        ("nonsense", SOURCE, Family.STABLE_DIFFUSION_1, Mode.TXT2IMG),
        ("remix", SOURCE, Family.STABLE_CASCADE, Mode.REMIX),
        ("remix", SOURCE, Family.STABLE_DIFFUSION_XL, Mode.IMG2IMG),
    ],
)
def test_the_mode_follows_the_picture_not_the_word_alone(
    request_for: Build, processing: str, source: SourceImage | None, family: Family, mode: Mode
) -> None:
    request = request_for(family=family, source_processing=processing, source=source)
    assert request.mode is mode
    assert request.source == (None if mode is Mode.TXT2IMG else source)


def test_nothing_to_inpaint_means_everything_and_the_requester_is_told(
    request_for: Build, model: Callable[..., ServedModel]
) -> None:
    asked = {"source_processing": "inpainting", "source": SOURCE}
    request = request_for(**asked)
    assert request.mode is Mode.IMG2IMG
    assert request.notes == (
        GenMetadataNote("information", "see_ref", "no mask, so the whole picture was painted over"),
    )
    # The jobs room gives an inpainting model's picture a mask of its own.
    assert request_for(model=model(inpainting=True), **asked).notes == ()


def test_a_family_that_can_not_draw_small_pictures_draws_larger_ones(request_for: Build) -> None:
    asked = {"width": 64, "height": 320}
    request = request_for(asked, family=Family.STABLE_CASCADE)
    assert (request.width, request.height) == (256, 320)
    assert request_for(asked).width == 64


def test_more_loras_embeddings_and_pictures_than_the_horde_allows_are_left_out(request_for: Build) -> None:
    assert len(lora_wishes({"loras": [{"name": str(number)} for number in range(9)]})) == 5
    assert len(embedding_wishes({"tis": [{"name": str(number)} for number in range(29)]})) == 20
    assert len(request_for(extra_sources=[ExtraSource(SOURCE)] * 9).extra_sources) == 5


def test_an_inpainting_model_always_inpaints(request_for: Build, model: Callable[..., ServedModel]) -> None:
    request = request_for(model=model(inpainting=True), source_processing="img2img", source=SOURCE)
    assert request.mode is Mode.INPAINTING


def test_a_picture_that_guides_a_controlnet_is_not_painted_over(request_for: Build) -> None:
    request = request_for({"control_type": "Hough"}, source_processing="img2img", source=SOURCE)
    assert (request.mode, request.control_type, request.source) == (Mode.TXT2IMG, "mlsd", SOURCE)


@pytest.mark.parametrize("nothing", [None, "", "none", "None", False])
def test_no_control_type_is_no_control(request_for: Build, nothing: Any) -> None:
    request = request_for({"control_type": nothing}, source_processing="img2img", source=SOURCE)
    assert (request.mode, request.control_type) == (Mode.IMG2IMG, None)


def test_a_control_type_without_a_picture_is_no_control(request_for: Build) -> None:
    request = request_for({"control_type": "canny", "return_control_map": True})
    assert (request.control_type, request.return_control_map) == (None, False)


def test_a_control_type_beside_noise_that_stands_in_for_a_picture_is_no_control(
    request_for: Build, model: Callable[..., ServedModel]
) -> None:
    noise = SourceImage("noise", 64, 64, has_alpha=True, stand_in=True)
    request = request_for({"control_type": "canny"}, model=model(inpainting=True), source=noise)
    assert (request.mode, request.control_type, request.source) == (Mode.INPAINTING, None, noise)


def test_post_processors_run_faces_first_and_the_cut_out_last(request_for: Build) -> None:
    asked = ["strip_background", "RealESRGAN_x4plus", "CodeFormers", "RealESRGAN_x4plus", "GFPGAN", "4x_Unheard"]
    request = request_for({"post_processing": asked})
    assert request.post_processing == ("CodeFormers", "GFPGAN", "RealESRGAN_x4plus", "strip_background")
    assert request.notes == (
        GenMetadataNote("information", "see_ref", "post-processor 4x_Unheard is unknown here and was left out"),
    )


def test_a_scheduler_that_diverges_is_replaced_and_the_requester_told(request_for: Build) -> None:
    request = request_for({"sampler_name": "dpmpp_3m_sde", "karras": False})
    assert request.scheduler == "simple"
    assert request.notes == (GenMetadataNote("information", "see_ref", "scheduler normal->simple for dpmpp_3m_sde"),)


def test_the_strengths_of_extra_pictures_are_clamped(request_for: Build) -> None:
    request = request_for(extra_sources=[ExtraSource(SOURCE, 9), ExtraSource(SOURCE, -1)])
    assert [extra.strength for extra in request.extra_sources] == [5.0, 0.0]


HIRES = {"hires_fix": True, "width": 1024, "height": 1024, "ddim_steps": 30}


def test_hires_gives_the_first_pass_its_own_size(request_for: Build) -> None:
    request = request_for(HIRES)
    assert request.hires
    assert (request.first_width, request.first_height) == (512, 512)
    assert (request.width, request.height) == (1024, 1024)
    assert (request.hires_steps, request.hires_denoise) == (16, 0.65)


@pytest.mark.parametrize(
    ("payload", "family", "first", "steps"),
    [
        ({"hires_fix_first_pass_width": 640}, Family.STABLE_DIFFUSION_1, (640, 512), 16),
        ({"hires_fix_first_pass_width": 700, "hires_fix_first_pass_height": "641"}, None, (704, 704), 16),
        ({"hires_fix_first_pass_width": 0, "hires_fix_first_pass_height": 9999}, None, (64, 1024), 16),
        ({"hires_fix_first_pass_width": 64}, Family.STABLE_CASCADE, (256, 1024), 10),
        ({"hires_fix_first_pass_width": None, "hires_fix_first_pass_height": "?"}, None, (512, 512), 16),
        ({"hires_fix_second_pass_steps": 3}, None, (512, 512), 3),
        ({"hires_fix_second_pass_steps": 501}, None, (512, 512), 500),
        ({"hires_fix_second_pass_steps": "?"}, None, (512, 512), 16),
    ],
)
def test_the_passes_are_as_large_and_as_long_as_the_payload_says(
    request_for: Build, payload: dict[str, Any], family: Family | None, first: tuple[int, int], steps: int
) -> None:
    """The first one is never larger than the picture, which is all that the Horde knows of the work."""
    request = request_for({**HIRES, **payload}, family or Family.STABLE_DIFFUSION_1)
    assert (request.first_width, request.first_height) == first
    assert request.hires_steps == steps


def test_without_hires_the_first_pass_is_the_picture(request_for: Build) -> None:
    request = request_for({**HIRES, "hires_fix": False, "hires_fix_first_pass_width": 64})
    assert not request.hires
    assert (request.first_width, request.first_height) == (1024, 1024)


@pytest.mark.parametrize(
    ("payload", "arguments"),
    [
        ({"width": 512}, {}),
        ({}, {"family": Family.STABLE_DIFFUSION_XL}),
        ({}, {"family": Family.FLUX_1}),
        ({}, {"family": Family.QWEN_IMAGE}),
        ({}, {"family": Family.Z_IMAGE_TURBO}),
        ({}, {"source": MASKED, "source_processing": "inpainting"}),
        ({}, {"source": MASKED, "source_processing": "outpainting"}),
        ({}, {"source": MASKED, "source_processing": "img2img"}),
    ],
)
def test_hires_is_off_where_it_makes_no_sense(
    request_for: Build, payload: dict[str, Any], arguments: dict[str, Any]
) -> None:
    request = request_for({**HIRES, **payload}, **arguments)
    assert not request.hires
    assert (request.first_width, request.first_height) == (request.width, request.height)


@pytest.mark.parametrize(
    ("payload", "processing", "expected"),
    [
        ({"hires_fix_denoising_strength": 0.4}, "txt2img", 0.4),
        ({"hires_fix_denoising_strength": 0}, "txt2img", 0.65),
        ({"denoising_strength": 0.3}, "txt2img", 0.65),
        ({"denoising_strength": 0.3}, "img2img", 0.3),
        ({"denoising_strength": 0.3, "hires_fix_denoising_strength": 0.5}, "img2img", 0.5),
        ({"denoising_strength": 0.3, "control_type": "canny"}, "img2img", 0.3),
        ({}, "img2img", 0.65),
        ({"control_type": "canny"}, "img2img", 0.65),
        ({"denoising_strength": None}, "img2img", 0.65),
        ({"denoising_strength": "strong"}, "img2img", 0.65),
        ({"denoising_strength": 0}, "img2img", 0.01),
    ],
)
def test_the_second_pass_denoises_like_the_first_only_with_a_picture(
    request_for: Build, payload: dict[str, Any], processing: str, expected: float
) -> None:
    assert request_for({**HIRES, **payload}, source=SOURCE, source_processing=processing).hires_denoise == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "prompt", "seed", "ddim_steps", "cfg_scale", "width", "height", "n_iter", "sampler_name", "scheduler", "karras",
    "denoising_strength", "clip_skip", "hires_fix", "hires_fix_denoising_strength", "post_processing", "extra_texts",
    "workflow", "control_type", "facefixer_strength", "loras", "tis", "tiling", "transparent", "unheard_of",
)  # fmt: skip


@given(
    payload=st.dictionaries(st.sampled_from(KEYS), JSON),
    family=st.sampled_from(list(Family)),
    processing=st.text(max_size=5) | st.sampled_from(Mode).map(lambda mode: mode.value),
    source=st.none() | st.sampled_from([SOURCE, MASKED]),
)
def test_no_payload_is_an_error(
    payload: dict[str, Any], family: Family, processing: str, source: SourceImage | None
) -> None:
    model = ServedModel("A Model", family, {})
    request = read_request(payload, model=model, source_processing=processing, source=source)
    assert request == read_request(payload, model=model, source_processing=processing, source=source)
    assert 0 <= request.seed < 2**64
    assert request.width % 64 == request.height % 64 == request.first_width % 64 == request.first_height % 64 == 0
    assert all(getattr(request, field.name) is not None for field in fields(request) if "None" not in str(field.type))
    assert all(note.ref is None or len(note.ref) <= 255 for note in request.notes)
    lora_wishes(payload)
    embedding_wishes(payload)


BROKEN = "a fox (snow:1e400), embedding:"
MENDED = "a fox (snow:10),"


@pytest.mark.parametrize("family", Family)
def test_every_prompt_is_made_harmless_for_every_family_and_the_requester_told(request_for: Build, family: Family):
    request = request_for({"prompt": f"{BROKEN}###{BROKEN}"}, family)
    assert (request.prompt, request.negative_prompt) == (MENDED, MENDED)
    assert [note.type for note in request.notes] == ["information"]
    assert request_for({"prompt": "a (b:1.2)", "negative_prompt": BROKEN}, family).negative_prompt == MENDED
    assert request_for({"prompt": "a (b:1.2)###c"}, family).notes == ()


def test_trigger_words_and_the_prompts_of_a_qr_code_are_made_harmless_too(request_for: Build):
    lora = LoraFile("l", trigger="all", words=("(style:nan)", "embedding:"))
    assert request_for({"prompt": "a"}, loras=[lora]).prompt == "(style:1), embedding:, a"
    texts = [{"reference": "function_layer_prompt", "text": BROKEN}]
    request = request_for({"prompt": BROKEN, "workflow": "qr_code", "extra_texts": texts})
    assert request.qr is not None
    assert request.qr.prompt == MENDED
    assert request_for({"prompt": BROKEN, "workflow": "qr_code"}).qr.prompt == MENDED  # type: ignore[union-attr]


def test_long_texts_and_lists_are_cut(request_for: Build):
    payload = {
        "prompt": "a" * 1_000_000,
        "negative_prompt": "b" * 1_000_000,
        "extra_texts": [{"text": "c" * 1_000_000, "reference": "d"}] * 10_000,
        "post_processing": ["e" * 1_000_000] * 10_000,
        "workflow": "f" * 1_000_000,
    }
    request = request_for(payload)
    assert len(repr(request)) < 1_000_000
    assert len(request.extra_texts) == 20
