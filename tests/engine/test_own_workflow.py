"""The walk-through of docs/workflows.md, tried: an owner's template is found, checked and rendered."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import yaml

from worker.demo.tiny.recipes import TINY_LORAS
from worker.workflows import packaged_folder
from worker.workflows.audit import audit_library
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.request import LoraFile
from worker.workflows.template_selection import select
from worker.workflows.types import Dialect

from .studio import VISIBLE, difference, pixels, small_second_pass

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
    [picture] = [pixels(image) for image in await own.render(small_second_pass(request))]
    assert picture.shape == (192, 128, 3)


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


async def test_every_image_of_a_list_of_batches_arrives(studio, tmp_path):
    folder = tmp_path / "own" / "list"
    shutil.copytree(packaged_folder() / "stable_diffusion" / "checkpoint", folder)
    graph = json.loads((folder / "graph.json").read_text("utf-8"))
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text("utf-8"))
    [decode] = [node_id for node_id, node in graph.items() if node["class_type"] == "VAEDecode"]
    inputs = {"images": [decode, 0], "batch_size": 1}
    graph["90"] = {"class_type": "RebatchImages", "inputs": inputs, "_meta": {"title": "rebatch"}}
    manifest["nodes"]["rebatch"] = "RebatchImages"
    manifest["ports"]["image"] = "rebatch.0"
    (folder / "graph.json").write_text(json.dumps(graph), "utf-8")
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest), "utf-8")
    library = Library.load(packaged_folder(), tmp_path, approved_classes={"RebatchImages"})
    own = dataclasses.replace(studio, library=library)
    request = own.request("Tiny SD1.5", n_iter=3)
    assert select(library, request).template.name == "own/list"
    for dialect in Dialect:
        listed = [pixels(image) for image in await own.render(request, dialect)]
        plain = [pixels(image) for image in await studio.render(request, dialect)]
        assert len(listed) == 3
        assert all(np.array_equal(one, other) for one, other in zip(listed, plain, strict=True))
