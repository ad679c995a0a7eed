"""Requests, models and the packaged library, for everything that is tested about workflows."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.newer_comfyui import newer_snapshot
from worker.workflows import packaged_folder
from worker.workflows.families import TRAITS
from worker.workflows.library import Library
from worker.workflows.node_classes import snapshot
from worker.workflows.payload import read_request
from worker.workflows.request import RenderRequest, ServedModel
from worker.workflows.types import Family

FUSED = {"checkpoint": "model.safetensors"}
SPLIT = {
    "unet": "unet.safetensors",
    "text_encoder": "clip_l.safetensors",
    "text_encoder_2": "t5xxl.safetensors",
    "vae": "ae.safetensors",
}
CASCADE = {"stage_b": "stage_b.safetensors", "stage_c": "stage_c.safetensors"}
ONE_ENCODER = {"unet": "unet.safetensors", "text_encoder": "qwen.safetensors", "vae": "vae.safetensors"}
#: Each family's files as most of its models have them.
FILES: dict[Family, dict[str, str]] = {
    **dict.fromkeys(Family, FUSED),
    Family.STABLE_CASCADE: CASCADE,
    Family.QWEN_IMAGE: ONE_ENCODER,
    Family.Z_IMAGE_TURBO: ONE_ENCODER,
    Family.ANIMA: ONE_ENCODER,
    Family.KREA2_TURBO: ONE_ENCODER,
}


#: Node classes of the pinned engine, and of a newer one for the families that need it: what it changed, and the rest.
NEWER = {**snapshot(), **newer_snapshot()[1]}
NODES = {family: NEWER if traits.needs.choices else snapshot() for family, traits in TRAITS.items()}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--snapshot-update", action="store_true", help="write the golden graphs anew and drop stale ones")


@pytest.fixture(scope="session")
def library() -> Library:
    return Library.load(packaged_folder())


@pytest.fixture(scope="session")
def model() -> Callable[..., ServedModel]:
    def build(
        family: Family = Family.STABLE_DIFFUSION_1,
        files: Mapping[str, str] = FUSED,
        *,
        name: str = "A Model",
        inpainting: bool = False,
    ) -> ServedModel:
        return ServedModel(name, family, files, inpainting)

    return build


@pytest.fixture(scope="session")
def request_for(model: Callable[..., ServedModel]) -> Callable[..., RenderRequest]:
    """A request from a payload; arguments of read_request go by their names."""

    def build(
        payload: Mapping[str, Any] | None = None,
        family: Family = Family.STABLE_DIFFUSION_1,
        **arguments: Any,
    ) -> RenderRequest:
        arguments.setdefault("model", model(family))
        return read_request({"seed": "1", **(payload or {})}, **arguments)

    return build


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write one template or fragment into a folder of workflows; gives that folder."""

    def write(name: str, manifest: str, graph: Mapping[str, Any] | str) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "manifest.yaml").write_text(manifest, "utf-8")
        (path / "graph.json").write_text(graph if isinstance(graph, str) else json.dumps(graph), "utf-8")
        return tmp_path

    return write
