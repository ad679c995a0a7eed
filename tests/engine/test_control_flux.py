"""ControlNets of Flux, which an owner has or has not, on the real engine."""

import numpy as np
import pytest

from worker.demo.tiny.recipes import TINY_LORAS
from worker.workflows.materialise import materialise
from worker.workflows.request import LoraFile
from worker.workflows.template_selection import select

from .studio import VISIBLE, difference, pixels
from .test_control import drawing

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

DEV, SCHNELL, SPLIT = "Tiny Flux Dev", "Tiny Flux Schnell", "Tiny Flux Split"
#: Map → the file here that it is for.
NETWORKS = {
    "canny": "FLUX.1-dev-ControlNet-Union-Pro.safetensors",
    "depth": "FLUX.1-dev-ControlNet-Union-Pro.safetensors",
    "openpose": "FLUX.1-dev-ControlNet-Union-Pro.safetensors",
    "hed": "flux-hed-controlnet-v3.safetensors",
}


async def guided(studio, model: str, kind: str, **payload: object) -> np.ndarray:
    source = await studio.hand_in(drawing(64, 64))
    request = studio.request(model, control_type=kind, source=source, cfg_scale=1.0, **payload)
    assert request.control_file == NETWORKS[kind]
    [image] = await studio.render(request)
    return pixels(image)


@pytest.mark.parametrize("model", [DEV, SCHNELL, SPLIT])
@pytest.mark.parametrize("kind", NETWORKS)
async def test_every_control_type_that_a_file_is_here_for_steers_flux(studio, model, kind):
    plain = await studio.picture(model, cfg_scale=1.0)
    assert difference(plain, await guided(studio, model, kind, image_is_control=True)) > VISIBLE / 4
    assert difference(plain, await guided(studio, model, kind)) > 0
    assert studio.complaints("missing controlnet keys", "could not detect control model type") == []


async def test_a_network_for_several_control_types_is_told_which(studio):
    """By the number of its own token, whatever ComfyUI calls that."""
    canny, depth, pose = [
        await guided(studio, DEV, kind, image_is_control=True) for kind in ("canny", "depth", "openpose")
    ]
    assert difference(canny, depth) > 0
    assert difference(canny, pose) > 0
    source = await studio.hand_in(drawing(64, 64))
    request = studio.request(DEV, control_type="canny", source=source, cfg_scale=1.0, image_is_control=True)
    made = materialise(select(studio.library, request), request)
    [union] = [node for node in made.graph.values() if node["class_type"] == "SetUnionControlNetType"]
    union["inputs"]["type"] = "auto"
    [untold] = await studio.run(made.graph, *made.outputs)
    assert difference(canny, untold) > 0


async def test_strength_counts_and_loras_and_a_negative_prompt_go_with_it(studio):
    plain = await studio.picture(DEV, cfg_scale=1.0)
    weak, strong = [
        await guided(studio, DEV, "depth", image_is_control=True, control_strength=strength) for strength in (0.2, 1.0)
    ]
    assert 0 < difference(plain, weak) < difference(plain, strong)
    lora = LoraFile(next(each.file.file_name for each in TINY_LORAS if "flux" in each.name), 1.0, 1.0)
    assert difference(strong, await guided(studio, DEV, "depth", image_is_control=True, loras=(lora,))) > 0
    source = await studio.hand_in(drawing(64, 64))
    images = await studio.render(
        studio.request(DEV, control_type="hed", source=source, cfg_scale=3.0, prompt="a ### b", n_iter=2)
    )
    assert len(images) == 2
    assert difference(pixels(images[0]), pixels(images[1])) > 0


async def test_a_picture_of_any_size_is_a_map_for_any_other(studio):
    source = await studio.hand_in(drawing(70, 50))
    request = studio.request(SPLIT, control_type="depth", source=source, cfg_scale=1.0, width=192, height=128)
    [image] = await studio.render(request)
    assert pixels(image).shape == (128, 192, 3)
