"""Jobs captured from a real server, as graphs that the pinned engine's nodes accept."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from worker.horde.messages import PopResponse
from worker.jobs.preview import preview, read_pop_file, request_for
from worker.models.catalog.records import ModelRecord
from worker.models.catalog.reference import read_folder
from worker.workflows.audit import audit_graph
from worker.workflows.graph import Graph
from worker.workflows.library import Library
from worker.workflows.node_classes import snapshot
from worker.workflows.samplers import DEFAULT_SAMPLER, sampler_for

RENDERED = {
    "txt2img", "txt2img_batch_n3", "sdxl", "flux", "hires_fix", "loras_tis", "cascade", "img2img", "inpaint_mask",
    "controlnet_canny", "post_processing", "qr_code",
}  # fmt: skip
#: What makes the difference of a job with a picture.
ENCODERS = {
    "img2img": "VAEEncode",
    "inpaint_mask": "InpaintModelConditioning",
    "controlnet_canny": "HordeAnnotator",
    "qr_code": "HordeQrCode",
}


def captured(horde_facts: Path, name: str) -> PopResponse:
    return read_pop_file(horde_facts / "jobs" / f"{name}.json")


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load()


@pytest.fixture(scope="module")
def models(model_lists: Path) -> Mapping[str, ModelRecord]:
    return read_folder(model_lists, beta=True).images


def test_every_captured_job_is_accounted_for(horde_facts: Path) -> None:
    names = {file.stem for file in (horde_facts / "jobs").glob("*.json")}
    assert names == RENDERED


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_a_captured_job_gives_a_graph_the_engine_takes(
    horde_facts: Path, library: Library, models: Mapping[str, ModelRecord], name: str
) -> None:
    job = captured(horde_facts, name)
    graph = preview(job, models, library).graph
    assert audit_graph(graph, snapshot()) == []
    values = [value for node in graph.values() for value in node["inputs"].values()]
    assert int(job.payload["seed"]) in values
    assert steps_in(graph) == job.payload["ddim_steps"]
    assert job.payload["n_iter"] == 1 or job.payload["n_iter"] in values
    assert job.payload["prompt"].split("###")[0] in values
    files = request_for(job, models).model.files.values()
    assert set(files) <= set(filter(lambda value: isinstance(value, str), values))
    classes = [node["class_type"] for node in graph.values()]
    assert classes.count("LoraLoader") == len(job.payload.get("loras", []))
    assert name not in ENCODERS or ENCODERS[name] in classes
    assert (job.source_image is not None) == ("HordeImageInput" in classes)


def steps_in(graph: Graph) -> int:
    """Of all samplers, one after the other, before a second pass."""
    # A QR code's patterns are sampled beside the rest.
    beside = {node_id for node_id, node in graph.items() if node["_meta"]["title"] == "patterns_sampler"}
    return sum(
        min(node["inputs"].get("end_at_step", 10000), node["inputs"]["steps"]) - node["inputs"].get("start_at_step", 0)
        for node_id, node in graph.items()
        if "steps" in node["inputs"] and not node_id.startswith("hires") and node_id not in beside
    )


def test_every_sampler_the_server_may_send_has_its_own_solver(horde_facts: Path) -> None:
    swagger = json.loads((horde_facts / "messages.json").read_text("utf-8"))
    names = swagger["definitions"]["ModelPayloadStyleStable"]["properties"]["sampler_name"]["enum"]
    fallen_back = [name for name in names if sampler_for(name) == DEFAULT_SAMPLER]
    assert fallen_back == ["k_euler"]
