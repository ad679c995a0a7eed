"""The same job with less memory, or without a batch."""

from dataclasses import replace

import pytest

from worker.workflows.audit import audit_graph
from worker.workflows.library import Library
from worker.workflows.materialise import materialise, one_by_one, parts_of, tiled
from worker.workflows.node_classes import snapshot
from worker.workflows.payload import read_request
from worker.workflows.request import MAX_SEED, ServedModel
from worker.workflows.template_selection import select
from worker.workflows.types import Family

MODEL = ServedModel("m", Family.STABLE_DIFFUSION_1, {"checkpoint": "m.safetensors"})


def test_a_batch_becomes_single_images_with_seeds_of_their_own():
    request = read_request({"n_iter": 3, "seed": "7"}, model=MODEL)
    parts = one_by_one(request)
    assert [(part.batch, part.seed) for part in parts] == [(1, 7), (1, 8), (1, 9)]


@pytest.mark.parametrize(("ignores", "save_memory", "batches"), [
    ([], False, [3]), ([], True, [1, 1, 1]), (["batch"], False, [1, 1, 1]),
])  # fmt: skip
def test_a_template_without_a_batch_and_an_engine_short_of_memory_render_image_by_image(ignores, save_memory, batches):
    request = read_request({"n_iter": 3, "seed": "7"}, model=MODEL)
    selection = select(Library.load(), request)
    template = selection.template
    manifest = template.manifest.model_copy(update={"ignores": [*template.manifest.ignores, *ignores]})
    selection = replace(selection, template=replace(template, manifest=manifest))
    assert [part.batch for part in parts_of(selection, request, save_memory=save_memory)] == batches


def test_seeds_stay_within_what_comfyui_takes():
    parts = one_by_one(read_request({"n_iter": 2, "seed": str(MAX_SEED)}, model=MODEL))
    assert [part.seed for part in parts] == [MAX_SEED, 0]


def test_the_vae_works_in_tiles_and_comfyui_accepts_it():
    request = read_request({}, model=MODEL)
    graph = materialise(select(Library.load(), request), request).graph
    thrifty = tiled(graph)
    classes = {node["class_type"] for node in thrifty.values()}
    assert "VAEDecodeTiled" in classes
    assert "VAEDecode" not in classes
    assert audit_graph(thrifty, snapshot(), unchecked=()) == audit_graph(graph, snapshot(), unchecked=())
