"""docs/workflows.md says what is so: its example works, its lists are complete."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.workflows.audit import PORT_TYPES, audit_library, snapshot
from worker.workflows.bind import PICTURE_FIELDS, PURPOSES, STAND_INS, TRANSFORMS
from worker.workflows.features import Feature
from worker.workflows.graph import copied
from worker.workflows.library import Library, packaged_folder
from worker.workflows.request import Family, LoraFile, Mode, RenderRequest, ServedModel
from worker.workflows.select import select


@pytest.fixture(scope="module")
def page() -> str:
    return (packaged_folder().parent / "docs" / "workflows.md").read_text("utf-8")


def test_the_example_serves_its_model(
    page: str, folder: Callable[..., Path], library: Library, request_for: Callable[..., RenderRequest]
) -> None:
    example, _ = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    ours = next(template for template in library.templates if template.name == "stable_diffusion/checkpoint")
    graph = copied(ours.graph)
    graph["9"] = {
        "class_type": "FreeU_V2",
        "inputs": {"model": ["1", 0], "b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
        "_meta": {"title": "freeu"},
    }
    graph["6"]["inputs"]["model"] = ["9", 0]
    own = Library.load(packaged_folder(), folder("own/freeu", example, graph), approved_classes={"FreeU_V2"})
    assert own.violations == ()
    assert audit_library(own, snapshot())["own/freeu"] == []
    model = ServedModel("AlbedoBase XL (SDXL)", Family.STABLE_DIFFUSION_XL, {"checkpoint": "x.safetensors"})
    assert select(own, request_for(model=model, loras=[LoraFile("a")])).template.name == "own/freeu"


def test_the_fragment_shown_is_the_one_we_ship(page: str, library: Library) -> None:
    _, shown = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    without_comments = [re.sub(r"\s+#.*|(?<=})\s+#.*", "", line) for line in shown.splitlines()]
    assert any(fragment.name == "fragments/lora" for fragment in library.fragments)
    shipped = (packaged_folder() / "fragments" / "lora" / "manifest.yaml").read_text("utf-8")
    assert without_comments == shipped.splitlines()


def test_every_word_of_the_manifests_is_explained(page: str) -> None:
    words = {
        *PICTURE_FIELDS,
        *STAND_INS,
        *PURPOSES,
        *TRANSFORMS,
        *(port for port in PORT_TYPES),
        *(feature.value for feature in Feature),
    }
    assert {word for word in words if f"`{word}`" not in page} == set()
    assert {mode.value for mode in Mode if mode.value not in page} == set()
