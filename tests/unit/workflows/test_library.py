import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.errors import TemplateError
from worker.workflows import packaged_folder
from worker.workflows.library import Library
from worker.workflows.request import RenderRequest
from worker.workflows.template_selection import select

Folder = Callable[..., Path]

MANIFEST = """
description: Nothing but noise.
serves: {families: [stable_diffusion_1], modes: [txt2img]}
nodes: {noise: EmptyImage}
bind: {noise.width: width, noise.height: height, noise.batch_size: batch}
ports: {image: noise.0}
outputs: [output]
ignores: [prompt, negative_prompt, seed, steps, cfg, sampler, scheduler, denoise, clip_skip]
"""
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
        "_meta": {"title": "noise"},
    },
    "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}, "_meta": {"title": "output"}},
}
APPROVED = {"EmptyImage"}


def load(folder: Path, *, approved: set[str] = APPROVED) -> Library:
    return Library.load(packaged_folder(), folder, approved_classes=approved)


def test_all_that_we_package_is_in_order(library: Library) -> None:
    assert library.violations == ()
    assert library.disabled == {}
    assert len(library.templates) >= 3
    assert len(library.fragments) >= 5


def test_without_folders_the_packaged_one_is_loaded(library: Library) -> None:
    assert [template.name for template in Library.load().templates] == [each.name for each in library.templates]


def test_fragments_come_in_splicing_order(library: Library) -> None:
    orders = [fragment.manifest.order for fragment in library.fragments]
    assert orders == sorted(orders)


def test_an_owners_template_goes_before_ours(folder: Folder, request_for: Callable[..., RenderRequest]) -> None:
    library = load(folder("own/noise", MANIFEST, GRAPH))
    assert select(library, request_for()).template.name == "own/noise"


def test_a_template_for_a_named_model_goes_before_all(
    folder: Folder, request_for: Callable[..., RenderRequest]
) -> None:
    folder("a/families", MANIFEST, GRAPH)
    library = load(folder("b/named", MANIFEST.replace("serves: {", "serves: {models: [A Model], "), GRAPH))
    assert select(library, request_for()).template.name == "b/named"


def test_an_owners_template_replaces_ours_of_the_same_name(folder: Folder) -> None:
    library = load(folder("stable_diffusion/checkpoint", MANIFEST, GRAPH))
    ours = [template for template in library.templates if template.name == "stable_diffusion/checkpoint"]
    assert [template.manifest.description for template in ours] == ["Nothing but noise."]


def test_a_broken_template_switches_itself_off_and_nothing_else(folder: Folder, library: Library) -> None:
    folder("own/noise", MANIFEST.replace("image: noise.0", "image: noise.x"), GRAPH)
    broken = load(folder("own/worse", "", "{"))
    assert [template.name for template in broken.templates] == [template.name for template in library.templates]
    assert set(broken.disabled) == {"own/noise", "own/worse"}
    assert "noise.x is not title.number" in broken.disabled["own/noise"]
    assert len(broken.violations) > 2


def test_a_broken_overlay_does_not_leave_ours_in_charge(folder: Folder) -> None:
    library = load(folder("stable_diffusion/checkpoint", "", "{"))
    assert "stable_diffusion/checkpoint" not in [template.name for template in library.templates]
    assert "stable_diffusion/checkpoint" in library.disabled


def test_node_classes_of_an_owner_need_approval(folder: Folder) -> None:
    where = folder("own/noise", MANIFEST, GRAPH)
    refused = load(where, approved=set())
    assert refused.violations == (
        (
            "own/noise/graph.json:noise: EmptyImage is not an approved node class; if you trust it, add it to "
            "approved_node_classes"
        ),
    )
    assert load(where).violations == ()


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="no folder of workflows"):
        load(tmp_path / "nowhere")


def test_findings_of_an_audit_switch_off_what_they_are_about(library: Library) -> None:
    left = library.without({"flux/split": ["decode:vae: is odd", "and more"], "flux/checkpoint": []})
    assert left.disabled == {"flux/split": "decode:vae: is odd; and more"}
    assert {template.name for template in library.templates} - {template.name for template in left.templates} == {
        "flux/split"
    }
    assert "fragments/lora" in library.without({"fragments/lora": ["x"]}).disabled


def test_a_folder_without_a_template_is_named_with_the_files_that_look_like_one(tmp_path: Path) -> None:
    for place in (
        "t/graph.json",
        "t/manifest.yaml",
        "own/named/manifest.yml",
        "own/named/my_api.json",
        "a/b/c/graph.json",
    ):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", "utf-8")
    (tmp_path / "README.md").write_text("not part of any template", "utf-8")
    assert Library.load(packaged_folder(), tmp_path).violations == (
        f"{tmp_path}: holds no template; one is graph.json and manifest.yaml in a folder own/name",
        "a/b/c/graph.json: is not read; a template lies two folders deep, as in own/name/graph.json",
        "own/named/manifest.yml: is not read; its name must be manifest.yaml",
        "own/named/my_api.json: is not read; a graph's name must be graph.json",
        "t/graph.json: is not read; a template lies two folders deep, as in own/name/graph.json",
        "t/manifest.yaml: is not read; a template lies two folders deep, as in own/name/manifest.yaml",
    )


def test_other_files_beside_a_template_are_an_owners_own_business(tmp_path: Path) -> None:
    folder = tmp_path / "own" / "copy"
    shutil.copytree(packaged_folder() / "stable_diffusion" / "checkpoint", folder)
    for name in ("graph_before.json", "notes.txt", "picture.png"):
        (folder / name).write_text("{}", "utf-8")
    assert Library.load(packaged_folder(), tmp_path).violations == ()
