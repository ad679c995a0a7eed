"""Less memory for the same job."""

from worker.workflows.audit import audit_graph, snapshot
from worker.workflows.library import Library
from worker.workflows.materialise import materialise, one_by_one, tiled
from worker.workflows.payload import read_request
from worker.workflows.request import MAX_SEED, ServedModel
from worker.workflows.select import select
from worker.workflows.types import Family

MODEL = ServedModel("m", Family.STABLE_DIFFUSION_1, {"checkpoint": "m.safetensors"})


def test_a_batch_becomes_single_images_with_seeds_of_their_own():
    request = read_request({"n_iter": 3, "seed": "7"}, model=MODEL)
    parts = one_by_one(request)
    assert [(part.batch, part.seed) for part in parts] == [(1, 7), (1, 8), (1, 9)]


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
