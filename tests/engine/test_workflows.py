"""Every template renders on the real engine, and what a job asks for shows in its pixels."""

import copy
import dataclasses

import pytest

from worker.demo.tiny.recipes import TINY_EMBEDDINGS, TINY_LORAS, TINY_MODELS
from worker.workflows.audit import audit_library
from worker.workflows.node_classes import PINNED_VERSION, snapshot
from worker.workflows.request import LoraFile
from worker.workflows.types import Dialect

from .studio import VISIBLE, difference, pixels

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

#: What ComfyUI says in its log of a file whose parts it could not use.
UNUSED = ("NOT LOADED", "lora key not loaded", "clip missing", "does not exist, ignoring")
LORA_OF = {addition.baseline: addition.file.file_name for addition in TINY_LORAS}
NAMES = [model.name for model in TINY_MODELS if not model.inpainting]
BASELINE_OF = {model.name: model.baseline for model in TINY_MODELS}


async def test_the_live_engine_can_run_every_template_and_fragment(studio):
    findings = audit_library(studio.library, studio.client.object_info)
    assert {name: sentences for name, sentences in findings.items() if sentences} == {}
    assert studio.library.disabled == {}


async def test_the_committed_snapshot_tells_what_the_live_engine_tells(studio):
    """A template that passes in CI must not fail at an owner's because the snapshot is old.

    Of another version than the pinned one only the classes count that our templates use.
    """
    ours, live = copy.deepcopy(dict(snapshot())), studio.client.object_info
    assert ours.keys() <= live.keys()
    if studio.client.version != PINNED_VERSION:
        used = {name for entry in (*studio.library.templates, *studio.library.fragments) for name in entry.classes}
        ours = {name: ours[name] for name in used & ours.keys()}
    names = lambda info: {kind: sorted(info["input"].get(kind, {})) for kind in ("required", "optional")}  # noqa: E731
    assert {name: names(info) for name, info in ours.items()} == {name: names(live[name]) for name in ours}


@pytest.mark.parametrize("model", NAMES)
async def test_the_same_job_gives_the_same_pixels_and_another_seed_gives_others(studio, model):
    first = await studio.picture(model)
    # Another job in between, so that the second is no answer from the engine's cache.
    other = await studio.picture(model, seed="43")
    again = await studio.picture(model)
    assert first.shape == ((256, 256, 3) if BASELINE_OF[model] == "stable_cascade" else (64, 64, 3))
    assert first.std() > VISIBLE
    assert difference(first, again) == 0
    assert difference(first, other) > VISIBLE


@pytest.mark.parametrize("model", NAMES)
async def test_a_lora_changes_the_picture(studio, model):
    """Its part for the diffusion model and its part for the text encoder, each by itself."""
    file = LORA_OF[BASELINE_OF[model]]
    before = studio.complaints(*UNUSED)
    plain = await studio.picture(model)
    for lora in (LoraFile(file, 1.0, 0.0), LoraFile(file, 0.0, 1.0)):
        assert difference(plain, await studio.picture(model, loras=(lora,))) > 0
    assert studio.complaints(*UNUSED) == before


@pytest.mark.parametrize("embedding", TINY_EMBEDDINGS, ids=lambda embedding: embedding.name)
async def test_a_textual_inversion_stands_for_words(studio, embedding):
    model = next(model.name for model in TINY_MODELS if model.baseline == embedding.baseline)
    before = studio.complaints(*UNUSED)
    plain = await studio.picture(model)
    named = await studio.picture(
        model, prompt=f"(embedding:{embedding.version_id}:1.0),a red fox in the snow ### blurry"
    )
    assert difference(plain, named) > 0
    assert studio.complaints(*UNUSED) == before


@pytest.mark.parametrize("model", ["Tiny SD1.5", "Tiny SDXL", "Tiny Flux Schnell"])
async def test_two_loras_are_not_one_lora_twice_as_strong_by_accident(studio, model):
    file = LORA_OF[BASELINE_OF[model]]
    twice = await studio.picture(model, loras=(LoraFile(file, 0.5, 0.5), LoraFile(file, 0.5, 0.5)))
    once = await studio.picture(model, loras=(LoraFile(file, 1.0, 1.0),))
    # Strengths add up: a chain of two halves is the whole, but for rounding.
    assert difference(once, twice) < VISIBLE * 4


@pytest.mark.parametrize(
    "model", ["Tiny SD1.5", "Tiny SDXL", "Tiny Flux Dev", "Tiny Stable Cascade", "Tiny Qwen-Image", "Tiny Z-Image"]
)
async def test_the_prompt_and_the_negative_prompt_matter(studio, model):
    plain = await studio.picture(model)
    assert difference(plain, await studio.picture(model, prompt="a green bus ### blurry")) > 0
    assert difference(plain, await studio.picture(model, prompt="a red fox in the snow ### a green bus")) > 0


@pytest.mark.parametrize("model", ["Tiny SD1.5", "Tiny SDXL"])
async def test_clip_skip_matters(studio, model):
    assert difference(await studio.picture(model), await studio.picture(model, clip_skip=2)) > 0


@pytest.mark.parametrize("model", ["Tiny SD1.5", "Tiny Flux Schnell"])
async def test_the_images_of_a_batch_differ_and_the_first_is_the_single_image(studio, model):
    images = [pixels(image) for image in await studio.render(studio.request(model, n_iter=3))]
    assert len(images) == 3
    assert difference(images[0], images[1]) > VISIBLE
    assert difference(images[1], images[2]) > VISIBLE


async def test_karras_is_not_the_normal_schedule(studio):
    karras, normal = [await studio.picture("Tiny SD1.5", karras=flag, ddim_steps=4) for flag in (True, False)]
    assert difference(karras, normal) > 0


@pytest.mark.parametrize(("width", "height"), [(128, 64), (64, 128)])
async def test_the_picture_has_the_asked_size(studio, width, height):
    picture = await studio.picture("Tiny SD1.5", width=width, height=height)
    assert picture.shape == (height, width, 3)


async def test_an_engine_without_our_nodes_gives_the_same_pixels(studio):
    request = studio.request("Tiny SD1.5", n_iter=2)
    ours = await studio.render(request, Dialect.PACK)
    stock = await studio.render(request, Dialect.STOCK)
    assert [image.pixels for image in ours] == [image.pixels for image in stock]


async def test_a_wrong_model_file_is_refused_with_its_name(studio):
    request = studio.request("Tiny SD1.5")
    absent = dataclasses.replace(request.model, files={"checkpoint": "absent.safetensors"})
    with pytest.raises(Exception, match=r"absent\.safetensors"):
        await studio.render(dataclasses.replace(request, model=absent))
