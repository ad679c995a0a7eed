"""Jobs captured from a real server, as graphs that the pinned engine's nodes accept."""

import json
from pathlib import Path
from typing import Any

import pytest

from worker.errors import JobNotServable
from worker.horde.wire import PopResponse
from worker.workflows.audit import audit_graph, snapshot
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.request import Family, LoraFile, ServedModel, lora_wishes, read_request
from worker.workflows.samplers import DEFAULT_SAMPLER, sampler_for
from worker.workflows.select import select

MODELS = {
    "Deliberate": ServedModel("Deliberate", Family.STABLE_DIFFUSION_1, {"checkpoint": "Deliberate.safetensors"}),
    "AlbedoBase XL (SDXL)": ServedModel(
        "AlbedoBase XL (SDXL)", Family.STABLE_DIFFUSION_XL, {"checkpoint": "AlbedoBaseXL.safetensors"}
    ),
    "Flux.1-Schnell fp8 (Compact)": ServedModel(
        "Flux.1-Schnell fp8 (Compact)", Family.FLUX_SCHNELL, {"checkpoint": "flux1Compact.safetensors"}
    ),
    "Stable Cascade 1.0": ServedModel(
        "Stable Cascade 1.0", Family.STABLE_CASCADE, {"stage_b": "b.safetensors", "stage_c": "c.safetensors"}
    ),
}

RENDERED = {"txt2img", "txt2img_batch_n3", "sdxl", "flux", "hires_fix", "loras_tis"}
#: Text-to-image jobs that need templates we do not have yet, and the reason each must be refused with.
REFUSED = {
    "cascade": "it is not for stable_cascade",
    "qr_code": "it is not for the workflow qr_code",
    "post_processing": "no fragment adds face_fix",
}


def captured(reference_dir: Path, name: str) -> PopResponse:
    content = json.loads((reference_dir / "horde-api" / "captured" / f"job_{name}.json").read_text("utf-8"))
    return PopResponse.model_validate(content["pops"][0]["response"])


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load()


def render(library: Library, job: PopResponse) -> dict[str, Any]:
    loras = [LoraFile(f"{wish.name}.safetensors", wish.model, wish.clip) for wish in lora_wishes(job.payload)]
    request = read_request(job.payload, model=MODELS[job.model], source_processing=job.source_processing, loras=loras)
    return materialise(select(library, request), request).graph


def test_every_captured_text_to_image_job_is_accounted_for(reference_dir: Path) -> None:
    names = {file.stem.removeprefix("job_") for file in (reference_dir / "horde-api" / "captured").glob("job_*.json")}
    assert {name for name in names if captured(reference_dir, name).source_image is None} == RENDERED | set(REFUSED)


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_a_captured_job_gives_a_graph_the_engine_takes(reference_dir: Path, library: Library, name: str) -> None:
    job = captured(reference_dir, name)
    graph = render(library, job)
    assert audit_graph(graph, snapshot()) == []
    values = [value for node in graph.values() for value in node["inputs"].values()]
    assert int(job.payload["seed"]) in values
    assert job.payload["ddim_steps"] in values
    assert job.payload["n_iter"] in values
    assert job.payload["prompt"].split("###")[0] in values
    assert set(MODELS[job.model].files.values()) <= set(filter(lambda value: isinstance(value, str), values))
    assert sum(node["class_type"] == "LoraLoader" for node in graph.values()) == len(job.payload.get("loras", []))


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_captured_job_without_a_template_is_refused_with_the_reason(
    reference_dir: Path, library: Library, name: str
) -> None:
    with pytest.raises(JobNotServable, match=REFUSED[name]):
        render(library, captured(reference_dir, name))


def test_every_sampler_the_server_may_send_has_its_own_solver(reference_dir: Path) -> None:
    swagger = json.loads((reference_dir / "horde-api" / "swagger.json").read_text("utf-8"))
    names = swagger["definitions"]["ModelPayloadStyleStable"]["properties"]["sampler_name"]["enum"]
    fallen_back = [name for name in names if sampler_for(name) == DEFAULT_SAMPLER]
    assert fallen_back == ["k_euler"]
