"""Pictures as a source on the real engine: what is kept, what is painted, how large it comes back, in every family."""

import numpy as np
import pytest
from PIL import Image

from worker.demo.tiny.recipes import TINY_MODELS
from worker.workflows.payload import MAX_BATCH
from worker.workflows.request import ExtraSource, SourceImage

from .studio import VISIBLE, difference, pixels, small_second_pass

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

ORDINARY = [model.name for model in TINY_MODELS if not model.inpainting]
#: Their VAEs give back what they are given; the others are too small for that.
FAITHFUL = [name for name in ORDINARY if "Qwen" not in name and "Cascade" not in name]
INPAINTING = "Tiny SD1.5 Inpainting"
CASCADE = "Tiny Stable Cascade"
QWEN = "Tiny Qwen-Image"


def side_of(model: str) -> int:
    return 256 if model == CASCADE else 64


def two_colours(side: int, left: str, right: str) -> Image.Image:
    picture = Image.new("RGB", (side, side), left)
    picture.paste(right, (side // 2, 0, side, side))
    return picture


def half_open(side: int) -> Image.Image:
    """Brown, with a right half that is to be painted."""
    alpha = Image.new("L", (side, side), 255)
    alpha.paste(0, (side // 2, 0, side, side))
    picture = Image.new("RGB", (side, side), "brown")
    picture.putalpha(alpha)
    return picture


def left(picture: np.ndarray) -> np.ndarray:
    """What lies well outside the mask."""
    return picture[:, : picture.shape[1] * 3 // 8]


def right(picture: np.ndarray) -> np.ndarray:
    """What lies well inside the mask."""
    return picture[:, picture.shape[1] * 5 // 8 :]


def leak(model: str) -> float:
    """How much of a change on one side is seen on the other. Qwen-Image's tiny VAE, all noise, blurs a lot."""
    return 0.75 if model == QWEN else 0.25


@pytest.mark.parametrize("model", ORDINARY)
async def test_a_picture_matters_the_more_the_less_is_denoised(studio, model):
    side = side_of(model)
    one = await studio.hand_in(two_colours(side, "brown", "navy"))
    other = await studio.hand_in(two_colours(side, "lime", "purple"))

    async def apart(denoise: float) -> float:
        drawn = [
            await studio.picture(
                model, source=each, processing="img2img", denoising_strength=denoise, width=side, height=side,
                ddim_steps=4,
            )
            for each in (one, other)
        ]  # fmt: skip
        assert drawn[0].shape == (side, side, 3)
        return difference(*drawn)

    faint, strong = await apart(0.2), await apart(1.0)
    assert faint > VISIBLE * 4
    assert faint > 2 * strong


@pytest.mark.parametrize("model", FAITHFUL)
async def test_a_picture_hardly_denoised_comes_back_almost_as_it_was(studio, model):
    picture = two_colours(64, "brown", "navy")
    given = await studio.hand_in(picture)
    drawn = await studio.picture(model, source=given, processing="img2img", denoising_strength=0.05)
    assert difference(drawn, np.asarray(picture, dtype=np.float32)) < 40


@pytest.mark.parametrize("processing", ["img2img", "inpainting", "outpainting"])
@pytest.mark.parametrize("model", [*ORDINARY, INPAINTING])
async def test_what_the_mask_leaves_out_is_kept_and_the_rest_is_painted(studio, model, processing):
    side = side_of(model)
    given = await studio.hand_in(half_open(side))
    first, second = [
        await studio.picture(model, source=given, processing=processing, seed=seed, width=side, height=side)
        for seed in ("42", "43")
    ]
    assert difference(right(first), right(second)) > VISIBLE * 4
    assert difference(left(first), left(second)) < difference(right(first), right(second)) * leak(model)
    if model != QWEN:
        brown = np.full_like(first, (165, 42, 42))
        assert difference(left(first), left(brown)) < difference(right(first), right(brown)) / 2


@pytest.mark.parametrize("model", ["Tiny SD1.5", CASCADE, QWEN])
async def test_a_mask_counts_for_every_image_of_a_batch_and_the_images_differ(studio, model):
    side = side_of(model)
    given = await studio.hand_in(half_open(side))
    request = studio.request(model, source=given, processing="img2img", n_iter=2, width=side, height=side)
    first, second = [pixels(image) for image in await studio.render(request)]
    assert difference(right(first), right(second)) > VISIBLE * 4
    assert difference(left(first), left(second)) < difference(right(first), right(second)) * leak(model)


@pytest.mark.parametrize("model", ["Tiny SDXL", INPAINTING, "Tiny Flux Split", "Tiny Z-Image", CASCADE])
async def test_the_images_of_a_batch_from_one_picture_differ(studio, model):
    side = side_of(model)
    given = await studio.hand_in(half_open(side))
    request = studio.request(model, source=given, processing="inpainting", n_iter=2, width=side, height=side)
    first, second = [pixels(image) for image in await studio.render(request)]
    assert difference(right(first), right(second)) > VISIBLE * 4


@pytest.mark.parametrize("model", ["Tiny SD1.5", QWEN])
async def test_the_largest_batch_from_one_picture_begins_as_a_small_one_does_and_no_two_images_are_alike(studio, model):
    given = await studio.hand_in(two_colours(64, "brown", "navy"))
    large, small = [
        await studio.render(studio.request(model, source=given, processing="img2img", n_iter=count, ddim_steps=1))
        for count in (MAX_BATCH + 1, 2)
    ]
    assert len({image.pixels for image in large}) == len(large) == MAX_BATCH
    for one, other in zip(large, small, strict=False):
        assert difference(pixels(one), pixels(other)) < VISIBLE


async def test_the_whole_picture_is_painted_where_nothing_is_masked_for_an_inpainting_model(studio):
    picture = Image.new("RGBA", (64, 64), (165, 42, 42, 0))
    given = await studio.hand_in(picture)
    first, second = [
        await studio.picture(INPAINTING, source=given, processing="img2img", seed=seed) for seed in ("42", "43")
    ]
    assert difference(left(first), left(second)) > VISIBLE * 4


@pytest.mark.parametrize("picture", [None, "one"])
async def test_a_second_pass_ends_at_the_asked_size(studio, picture):
    given = await studio.hand_in(two_colours(64, "brown", "navy")) if picture else None
    asked = {"hires_fix": True, "width": 576, "height": 640, "ddim_steps": 1, "hires_fix_denoising_strength": 0.5}
    request = studio.request("Tiny SD1.5", source=given, processing="img2img", **asked)
    assert (request.first_width, request.first_height) == (512, 512)
    [image] = await studio.render(small_second_pass(request))
    assert (image.width, image.height) == (128, 192)


@pytest.mark.parametrize("model", ["Tiny Flux Schnell", QWEN, "Tiny Z-Image"])
async def test_a_family_without_a_second_pass_still_draws_at_the_asked_size(studio, model):
    assert not studio.request(model, hires_fix=True, width=576, height=576).hires
    picture = await studio.picture(model, hires_fix=True, width=128, height=192, ddim_steps=1)
    assert picture.shape == (192, 128, 3)


async def test_cascade_draws_twice_for_a_hires_fix_from_the_same_seed_and_prompt(studio):
    asked = {"width": 320, "height": 256, "ddim_steps": 3}
    once = await studio.picture(CASCADE, **asked)
    twice = await studio.picture(CASCADE, hires_fix=True, **asked)
    assert twice.shape == (256, 320, 3)
    assert difference(once, twice) > VISIBLE
    again = await studio.picture(CASCADE, hires_fix=True, hires_fix_denoising_strength=0.3, **asked)
    assert difference(twice, again) > VISIBLE
    for change in ({"seed": "43"}, {"cfg_scale": 2.0}):
        assert difference(twice, await studio.picture(CASCADE, hires_fix=True, **asked, **change)) > VISIBLE


async def test_cascade_sees_every_picture_of_a_remix_and_none_that_does_not_count(studio):
    one = await studio.hand_in(two_colours(256, "brown", "navy"))
    other = await studio.hand_in(two_colours(256, "lime", "purple"))

    async def remix(first: SourceImage, *extras: ExtraSource) -> np.ndarray:
        return await studio.picture(
            CASCADE, source=first, processing="remix", extra_sources=extras, cfg_scale=4, ddim_steps=5
        )

    plain = await studio.picture(CASCADE, cfg_scale=4, ddim_steps=5)
    drawn = [
        plain,
        await remix(one),
        await remix(other),
        await remix(one, ExtraSource(other, 1.0)),
        await remix(one, ExtraSource(other, 1.0), ExtraSource(one, 1.0)),
    ]
    # Too small a model for degrees: what it is shown at all counts in full.
    assert difference(drawn[1], await remix(one, ExtraSource(other, 0.0))) == 0
    for number, first in enumerate(drawn):
        for second in drawn[number + 1 :]:
            assert difference(first, second) > VISIBLE
