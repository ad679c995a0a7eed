"""Much of what can be asked at once, in every family on the real engine: nothing of it undoes another."""

import pytest
from PIL import Image

from worker.demo.tiny.recipes import TINY_LORAS, TINY_MODELS
from worker.workflows.request import ExtraSource, LoraFile

from .studio import VISIBLE, difference, pixels, small_second_pass

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

LORA_OF = {addition.baseline: addition.file.file_name for addition in TINY_LORAS}
MODELS = {model.name: model for model in TINY_MODELS if not model.name.endswith(("B", "Deep"))}


@pytest.mark.parametrize("model", MODELS)
async def test_loras_a_masked_picture_a_batch_and_post_processing_go_together(studio, model):
    side = 256 if "Cascade" in model else 64
    alpha = Image.new("L", (side, side), 255)
    alpha.paste(0, (side // 2, 0, side, side))
    picture = Image.new("RGB", (side, side), "brown")
    picture.putalpha(alpha)
    asked = {
        "source": await studio.hand_in(picture),
        "processing": "inpainting",
        "loras": (LoraFile(LORA_OF[MODELS[model].baseline]),),
        "n_iter": 2,
        "width": side,
        "height": side,
        "clip_skip": 2,
        "tiling": True,
        "hires_fix": True,
        "post_processing": ["RealESRGAN_x2plus"],
    }
    images = [pixels(image) for image in await studio.render(studio.request(model, **asked))]
    assert [image.shape for image in images] == [(2 * side, 2 * side, 3)] * 2
    assert difference(images[0][:, -side // 2 :], images[1][:, -side // 2 :]) > VISIBLE


async def test_a_second_pass_over_a_picture_with_loras_a_batch_and_a_network_after_it(studio):
    picture = await studio.hand_in(Image.new("RGB", (64, 64), "brown"))
    request = studio.request(
        "Tiny SD1.5",
        source=picture,
        processing="img2img",
        loras=(LoraFile(LORA_OF["stable diffusion 1"]),),
        n_iter=2,
        width=576,
        height=576,
        ddim_steps=1,
        hires_fix=True,
        denoising_strength=0.6,
        post_processing=["RealESRGAN_x2plus"],
    )
    images = [pixels(image) for image in await studio.render(small_second_pass(request))]
    assert [image.shape for image in images] == [(384, 256, 3)] * 2
    assert difference(*images) > VISIBLE


async def test_a_remix_is_drawn_twice_with_loras_and_enlarged(studio):
    one, other = [await studio.hand_in(Image.new("RGB", (96, 64), colour)) for colour in ("brown", "navy")]
    asked = {
        "source": one,
        "processing": "remix",
        "extra_sources": (ExtraSource(other, 0.7),),
        "width": 320,
        "height": 256,
        "hires_fix": True,
        "cfg_scale": 4,
        "ddim_steps": 3,
        "post_processing": ["RealESRGAN_x2plus"],
    }
    plain = await studio.picture("Tiny Stable Cascade", **asked)
    assert plain.shape == (512, 640, 3)
    lora = LoraFile(LORA_OF["stable_cascade"])
    assert difference(plain, await studio.picture("Tiny Stable Cascade", loras=(lora,), **asked)) > VISIBLE
