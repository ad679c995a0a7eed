"""docs/workflows.md says what is so: its example works, its lists are complete."""

import re
from collections.abc import Callable

import pytest

from worker.workflows import packaged_folder
from worker.workflows.audit import PORT_TYPES, everything_wrong
from worker.workflows.bind import PICTURE_FIELDS, PURPOSES, STAND_INS, TRANSFORMS
from worker.workflows.library import Library
from worker.workflows.node_classes import snapshot
from worker.workflows.request import LoraFile, RenderRequest
from worker.workflows.template_selection import select
from worker.workflows.types import Feature, Mode


@pytest.fixture(scope="module")
def page() -> str:
    return (packaged_folder().parent / "docs" / "workflows.md").read_text("utf-8")


EXAMPLES = packaged_folder().parent / "docs" / "examples" / "workflows"
APPROVED = {"FreeU_V2", "ImageSharpen"}


def test_the_example_shown_is_the_one_that_can_be_tried(page: str) -> None:
    example, _ = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example == (EXAMPLES / "own" / "pixel_hires" / "manifest.yaml").read_text("utf-8")


def test_the_example_serves_what_it_says(request_for: Callable[..., RenderRequest]) -> None:
    library = Library.load(packaged_folder(), EXAMPLES, approved_classes=APPROVED)
    assert everything_wrong(library, snapshot()) == []
    large = {"hires_fix": True, "width": 1024, "height": 1024}
    assert select(library, request_for(large, loras=[LoraFile("a")])).template.name == "own/pixel_hires"
    assert select(library, request_for()).template.name == "stable_diffusion/checkpoint"


def test_the_example_needs_the_approvals_that_are_named() -> None:
    found = everything_wrong(Library.load(packaged_folder(), EXAMPLES), snapshot())
    assert len(found) == 2
    assert all(any(name in sentence for sentence in found) for name in APPROVED)


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
