"""The walk-through of docs/workflows.md, tried: an owner's template is found, checked and rendered."""

import dataclasses

import numpy as np
import pytest

from worker.demo.tiny.recipes import TINY_LORAS
from worker.workflows import packaged_folder
from worker.workflows.audit import audit_library
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.request import LoraFile
from worker.workflows.select import select

from .studio import VISIBLE, difference, pixels

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

EXAMPLES = packaged_folder().parent / "docs" / "examples" / "workflows"
#: Stable Diffusion 2 has a second pass at any size; the smallest that others have one at takes a CPU minutes.
MODEL = "Tiny SD2 512"
HIRES = {"hires_fix": True, "width": 128, "height": 64, "ddim_steps": 2}


@pytest.fixture
def own(studio):
    """The studio with the example's folder as workflows_dir."""
    library = Library.load(packaged_folder(), EXAMPLES, approved_classes={"FreeU_V2", "ImageSharpen"})
    return dataclasses.replace(studio, library=library)


async def test_the_live_engine_has_what_the_example_needs(own):
    assert audit_library(own.library, own.client.object_info)["own/pixel_hires"] == []


async def test_the_example_renders_the_jobs_it_serves_and_ours_the_others(own, studio):
    request = own.request(MODEL, **HIRES)
    assert select(own.library, request).template.name == "own/pixel_hires"
    [mine] = [pixels(image) for image in await own.render(request)]
    [ours] = [pixels(image) for image in await studio.render(request)]
    assert mine.shape == ours.shape == (64, 128, 3)
    assert difference(mine, ours) > VISIBLE / 4
    plain = own.request(MODEL)
    assert select(own.library, plain).template.name == "stable_diffusion/checkpoint"
    assert np.array_equal(await own.picture(MODEL), await studio.picture(MODEL))


async def test_the_first_pass_is_smaller_and_the_picture_has_the_asked_size(own):
    request = own.request("Tiny SD1.5", hires_fix=True, width=576, height=576, ddim_steps=1)
    graph = materialise(select(own.library, request), request).graph
    assert graph["6"]["inputs"]["width"] == 512
    [picture] = [pixels(image) for image in await own.render(request)]
    assert picture.shape == (576, 576, 3)


async def test_a_lora_enters_at_the_port_before_both_samplers(own):
    lora = LoraFile(next(each.file.file_name for each in TINY_LORAS if "sd2" in each.name), 1.0, 1.0)
    request = own.request(MODEL, loras=(lora,), **HIRES)
    graph = materialise(select(own.library, request), request).graph
    assert graph["2"]["inputs"]["model"] == graph["12"]["inputs"]["model"] == ["lora-1", 0]
    [plain] = [pixels(image) for image in await own.render(own.request(MODEL, **HIRES))]
    [changed] = [pixels(image) for image in await own.render(request)]
    assert difference(plain, changed) > VISIBLE / 4


async def test_a_batch_is_delivered_whole(own):
    one, other = [pixels(image) for image in await own.render(own.request(MODEL, n_iter=2, **HIRES))]
    assert difference(one, other) > VISIBLE
