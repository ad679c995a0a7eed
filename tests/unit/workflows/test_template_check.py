"""What is wrong only with a whole graph is found before a job gets it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from worker.workflows import packaged_folder
from worker.workflows.audit import audit_library
from worker.workflows.capabilities import Ability, survey
from worker.workflows.library import Library
from worker.workflows.node_classes import snapshot
from worker.workflows.request import ServedModel
from worker.workflows.template_check import rehearse
from worker.workflows.types import Family

OURS = packaged_folder() / "stable_diffusion" / "checkpoint"
MODEL = ServedModel("a", Family.STABLE_DIFFUSION_1, {"checkpoint": "a.safetensors"})
FORGOT_TO_NEGATE = ("{from: clip_skip, via: negate}", "clip_skip")
TILES = {
    "manifest.yaml": "description: Reads a file that not every model has.\nwhen: tiling\norder: 5\n"
    "nodes: {tiles: VAELoader}\nout: {vae: tiles.0}\nbind: {tiles.vae_name: model.files.vae}\n",
    "graph.json": json.dumps(
        {"1": {"class_type": "VAELoader", "inputs": {"vae_name": "a"}, "_meta": {"title": "tiles"}}}
    ),
}


@pytest.fixture
def with_own(tmp_path: Path) -> Callable[..., Library]:
    """Our library with a copy of our template for Stable Diffusion, some texts in its manifest replaced."""

    def load(*changes: tuple[str, str]) -> Library:
        shutil.copytree(OURS, tmp_path / "own" / "copy")
        manifest = tmp_path / "own" / "copy" / "manifest.yaml"
        text = manifest.read_text("utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        manifest.write_text(text, "utf-8")
        return sound(tmp_path)

    return load


def sound(folder: Path) -> Library:
    """What no look at the parts finds fault with."""
    library = Library.load(packaged_folder(), folder)
    assert library.violations == ()
    assert not any(audit_library(library, snapshot()).values())
    return library


def faults_of(library: Library, name: str) -> list[str]:
    """What rehearsing one of its templates finds; ours are all rehearsed below."""
    alone = tuple(template for template in library.templates if template.name == name)
    assert alone
    return rehearse(replace(library, templates=alone), snapshot())


def test_every_kind_of_job_goes_through_every_template_of_ours() -> None:
    assert rehearse(Library.load(), snapshot()) == []


def test_a_value_that_the_engine_would_refuse_is_found(with_own: Callable[..., Library]) -> None:
    assert faults_of(with_own(FORGOT_TO_NEGATE), "own/copy") == [
        "own/copy/graph.json:clip_skip:stop_at_clip_layer: 1 is not within -24 to -1"
    ]


def test_the_workflow_that_a_template_is_for_is_tried(with_own: Callable[..., Library]) -> None:
    for_sketches = ("modes: [txt2img, img2img, inpainting, outpainting]", "modes: [txt2img]\n  workflows: [sketch]")
    assert len(faults_of(with_own(for_sketches, FORGOT_TO_NEGATE), "own/copy")) == 1


def test_what_can_not_be_filled_in_is_found_and_not_offered(tmp_path: Path) -> None:
    folder = tmp_path / "fragments" / "tiles"
    folder.mkdir(parents=True)
    for name, text in TILES.items():
        (folder / name).write_text(text, "utf-8")
    library = sound(tmp_path)
    reason = "fragments/tiles:vae_name: this request has no model.files.vae."
    assert any(reason in sentence for sentence in faults_of(library, "stable_diffusion/checkpoint"))
    found = survey(library, [MODEL], lambda _: True)
    assert reason in found.reason(Ability.TILING)
    assert found.works(Ability.PICTURES)
