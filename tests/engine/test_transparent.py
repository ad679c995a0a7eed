"""Pictures drawn on nothing, on the real engine."""

import dataclasses

import pytest

from worker.demo.tiny.recipes import TINY_LORAS
from worker.workflows.request import LoraFile

from .studio import VISIBLE, difference, pixels

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

MODELS = ["Tiny SD1.5 Deep", "Tiny SDXL"]
LORA_OF = dict(zip(MODELS, (TINY_LORAS[0].file.file_name, TINY_LORAS[2].file.file_name), strict=True))


# Few renders: the decoder looks at every picture eight times, with a network of the real one's size.
@pytest.mark.parametrize("model", MODELS)
async def test_a_transparent_picture_has_alpha_and_loras_and_leaves_the_model_as_it_was(studio, model):
    before = await studio.picture(model)
    transparent = await studio.picture(model, transparent=True)
    with_lora = await studio.picture(model, transparent=True, loras=(LoraFile(LORA_OF[model], 1.0, 1.0),))
    assert transparent.shape == (64, 64, 4)
    assert transparent[..., :3].std() > VISIBLE
    assert transparent[..., 3].std() > VISIBLE
    assert difference(transparent, with_lora) > 0
    assert difference(before, await studio.picture(model)) == 0


async def test_every_image_of_a_transparent_batch_is_as_if_it_were_alone(studio):
    request = studio.request("Tiny SDXL", transparent=True, n_iter=2, post_processing=["RealESRGAN_x2plus"])
    images = [pixels(image) for image in await studio.render(request)]
    alone = await studio.picture("Tiny SDXL", transparent=True, post_processing=["RealESRGAN_x2plus"])
    assert [image.shape for image in images] == [(128, 128, 4)] * 2
    assert difference(images[0], alone) < VISIBLE
    assert difference(images[0], images[1]) > VISIBLE


async def test_the_transparency_is_told_from_the_second_pass(studio):
    """At a size no requester could ask a second pass for."""
    once = studio.request("Tiny SD1.5 Deep", transparent=True, width=128)
    twice = dataclasses.replace(once, hires=True, first_width=64)
    [one], [other] = [await studio.render(request) for request in (once, twice)]
    assert pixels(other).shape == (64, 128, 4)
    assert difference(pixels(one), pixels(other)) > VISIBLE


async def test_weights_for_another_model_are_refused(studio):
    with pytest.raises(Exception, match=r"changes 32 attention layers, but this model has"):
        await studio.picture("Tiny SD1.5", transparent=True)
