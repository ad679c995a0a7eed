"""Families are data: ours, and those of an owner that this project never heard of."""

import copy
import json
import pickle
import re
import shutil
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.newer_comfyui import newer_snapshot
from worker.errors import JobNotServable
from worker.models.catalog.custom import read_custom_models
from worker.models.catalog.records import family_of
from worker.models.loras.civitai import fits as civitai_fits
from worker.scheduling.estimates.ttl import ttl_s
from worker.workflows import families, packaged_folder
from worker.workflows.audit import audit_library, everything_wrong, remarks, suited
from worker.workflows.auxiliary_files import controlnets
from worker.workflows.capabilities import Ability, survey
from worker.workflows.families import TRAITS
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.node_classes import snapshot
from worker.workflows.payload import read_request
from worker.workflows.request import ServedModel, SourceImage
from worker.workflows.template_check import rehearse
from worker.workflows.template_selection import select
from worker.workflows.types import Family

KREA = """
baselines: [krea]
native_px: 1024
scheduler: simple
hires: false
cost: 8
ttl: 3
files: [[unet, text_encoder, vae]]
"""


@pytest.fixture
def owner(tmp_path: Path) -> Path:
    """A folder with a family of the owner's and a template for it, a copy of ours for Z-Image."""
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "krea_2.yaml").write_text(KREA, "utf-8")
    shutil.copytree(packaged_folder() / "z_image" / "split", tmp_path / "krea" / "split")
    manifest = tmp_path / "krea" / "split" / "manifest.yaml"
    content = yaml.safe_load(manifest.read_text("utf-8"))
    content["serves"]["families"] = ["krea_2"]
    manifest.write_text(yaml.safe_dump(content), "utf-8")
    return tmp_path


def test_every_family_has_its_traits() -> None:
    assert set(TRAITS) == set(Family) == {path.stem for path in (packaged_folder() / "families").glob("*.yaml")}
    assert family_of("Stable Diffusion 1.5") is Family.STABLE_DIFFUSION_1
    assert family_of("stable diffusion 2.1") is Family.STABLE_DIFFUSION_2_768
    assert {family_of(name) for name in ("SD1", "SD14", "SD1.4", "sd15", "SD1.5")} == {Family.STABLE_DIFFUSION_1}


def test_there_is_one_object_for_each_family() -> None:
    family = Family("flux_1")
    assert family is Family.FLUX_1
    assert copy.deepcopy(family) is family
    assert pickle.loads(pickle.dumps(family)) is family
    assert json.dumps({family: family}) == '{"flux_1": "flux_1"}'
    with pytest.raises(ValueError, match="'flux_9' is no known family; known are anima, "):
        Family("flux_9")


@pytest.mark.usefixtures("forgetful")
def test_an_owner_serves_a_family_that_nobody_heard_of_by_data_alone(owner: Path) -> None:
    library = Library.load(packaged_folder(), owner)
    assert everything_wrong(library, snapshot()) == []
    own = tuple(template for template in library.templates if template.name == "krea/split")
    assert rehearse(replace(library, templates=own), snapshot()) == []
    files = {"unet": "k.safetensors", "text_encoder": "t.safetensors", "vae": "v.safetensors"}
    entry = {"name": "Krea 2", "baseline": "krea", "files": files}
    [record] = read_custom_models([entry]).records.values()
    assert record.family is Family("krea_2")
    assert record.family is not None

    model = ServedModel("Krea 2", record.family, files)
    request = read_request({"prompt": "a fox", "seed": "1", "hires_fix": True, "karras": True}, model=model)
    assert (request.scheduler, request.hires) == ("simple", False)
    selection = select(library, request)
    assert selection.template.name == "krea/split"
    assert "k.safetensors" in json.dumps(materialise(selection, request).graph)
    found = survey(library, [model], lambda _: True)
    assert [found.works(ability) for ability in (Ability.PICTURES, Ability.LORAS)] == [True, True]
    assert ttl_s(1000, record.family) == ttl_s(1000, Family.QWEN_IMAGE)


@pytest.mark.usefixtures("forgetful")
def test_a_family_without_a_template_is_not_served(owner: Path) -> None:
    assert remarks(Library.load(packaged_folder(), owner), snapshot()) == []
    shutil.rmtree(owner / "krea")
    library = Library.load(packaged_folder(), owner)
    assert remarks(library, snapshot()) == [
        "families/krea_2.yaml:: no template serves this family, so no model of it is offered"
    ]
    with pytest.raises(JobNotServable, match="there is none for its family"):
        select(library, read_request({}, model=ServedModel("k", Family("krea_2"), {})))


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("native_pixels: 1024", "families/krea_2.yaml:native_px: Field required"),
        (KREA + "colour: blue", "families/krea_2.yaml:colour: Extra inputs are not permitted"),
        (KREA.replace("1024", "-1"), "families/krea_2.yaml:native_px: Input should be greater than or equal to 64"),
        ("a: [", "families/krea_2.yaml:: can't be read: while parsing"),
        ("", "families/krea_2.yaml:: can't be read: holds no keys with values"),
        ("#" * families.MAX_FILE_BYTES + KREA, "families/krea_2.yaml:: can't be read: is larger than 65536 bytes"),
    ],
)
def test_a_mistake_in_a_family_is_told_with_its_place(owner: Path, content: str, sentence: str) -> None:
    (owner / "families" / "krea_2.yaml").write_text(content, "utf-8")
    found = everything_wrong(Library.load(packaged_folder(), owner), snapshot())
    assert any(line.startswith(sentence) for line in found), found
    assert any("'krea_2' is no known family" in line for line in found), found


@pytest.mark.usefixtures("forgetful")
def test_an_owner_may_change_what_is_known_of_one_of_our_families(owner: Path) -> None:
    (owner / "families" / "flux_dev.yaml").write_text("native_px: 1024\nscheduler: beta\nhires: false\n", "utf-8")
    Library.load(packaged_folder(), owner)
    model = ServedModel("f", Family.FLUX_DEV, {"checkpoint": "f"})
    assert read_request({}, model=model).scheduler == "beta"


@pytest.mark.usefixtures("forgetful")
def test_a_baseline_that_is_like_a_known_family_is_served_by_one_line(tmp_path: Path) -> None:
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "noob_xl.yaml").write_text("like: stable_diffusion_xl\n", "utf-8")
    library = Library.load(packaged_folder(), tmp_path)
    assert everything_wrong(library, snapshot()) == []
    noob, xl = Family("noob_xl"), Family.STABLE_DIFFUSION_XL
    [record] = read_custom_models(
        [{"name": "Noob", "baseline": "noob xl", "filepath": "n.safetensors"}]
    ).records.values()
    assert record.family is noob

    graphs = []
    for family in (noob, xl):
        model = ServedModel("any", family, {"checkpoint": "n.safetensors"})
        asked = {"seed": "1", "width": 1536, "height": 1152, "hires_fix": True, "transparent": True, "karras": True}
        request = read_request(asked, model=model)
        graphs.append(materialise(select(library, request), request).graph)
        assert all(survey(library, [model], lambda _: True).works(ability) for ability in Ability)
    assert graphs[0] == graphs[1]
    # What stands beside `like` differs; names of the other family are not this one's.
    assert (TRAITS[noob].baselines, TRAITS[noob].groups) == ([], [])
    assert civitai_fits("Illustrious", noob)
    assert not civitai_fits("SD 1.5", noob)


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"a": "like: sdlx"}, "families/a.yaml:like: there is no family 'sdlx'; there are anima, "),
        ({"a": "like: b", "b": "like: a"}, "families/a.yaml:like: it leads back to a"),
        ({"a": "like: [x]"}, "families/a.yaml:like: there is no family ['x']"),
        ({"a": "native_px: 512\nfirst_pass: {shorter_px: 1, longer_px: 2}"}, "families/a.yaml:first_pass: name one of"),
        ({"a": "native_px: 512\nneeds: {comfyui: new}"}, "families/a.yaml:needs.comfyui: String should match"),
        (
            {"a": "native_px: 512\ncontrolnets: {canny: {folder: c, name: n, url: 'http://x'}}"},
            "families/a.yaml:controlnets.canny.url: String should match",
        ),
        (
            {"a": "native_px: 512\ncontrolnets: {canny: {folder: controlnets, name: n}}"},
            "families/a.yaml:controlnets: ComfyUI finds ControlNets in the folder controlnet alone",
        ),
        (
            {"a": "native_px: 512\ncontrolnets: {canny: {folder: controlnet, name: ../../n}}"},
            "families/a.yaml:controlnets.canny.name: a path within the models folder is wanted",
        ),
        (
            {"a": "native_px: 512\nlayer_diffuse: {model: {folder: .., name: n}, decoder: {folder: vae, name: n}}"},
            "families/a.yaml:layer_diffuse.model.folder: String should match",
        ),
        ({"a": "native_px: 512\nfiles: [[]]"}, "families/a.yaml:files.0: List should have at least 1 item"),
        ({"a": "native_px: 512\nneeds: {choices: {CLIPLoader: krea2}}"}, "families/a.yaml:needs.choices.CLIPLoader"),
        ({"a": "native_px: 512\nnative_px: 1024"}, "families/a.yaml:: can't be read: native_px stands there twice"),
        (
            {"a": "native_px: 512\nbaselines: [Stable Diffusion XL]"},
            "families/a.yaml:baselines: stable_diffusion_xl means the family stable_diffusion_xl already",
        ),
        (
            {"a": "native_px: 512\nbaselines: [sd fifteen]", "A": "like: flux_1"},
            "families/a.yaml:: can't be read: another file is for a as well",
        ),
        ({"a": "like: b\nnative_px: 512", "b": "cost: 2"}, "families/a.yaml:like: there is a mistake in the file of b"),
    ],
)
def test_a_file_that_makes_no_family_is_told(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    assert any(line.startswith(sentence) for line in loaded(tmp_path, files))
    assert "a" not in Family or "A" in files
    for family in Family:
        list(families.lineage(family))


def loaded(folder: Path, files: dict[str, str]) -> list[str]:
    """What is wrong with a folder of these families."""
    (folder / "families").mkdir()
    for name, content in files.items():
        (folder / "families" / (name if "." in name else f"{name}.yaml")).write_text(content, "utf-8")
    return families.load(folder)


@pytest.mark.usefixtures("forgetful")
def test_a_mistake_costs_only_the_families_that_are_like_that_one(tmp_path: Path) -> None:
    files = {"a": "like: b", "b": "like: c", "c": "cost: 2", "d": "like: stable_diffusion_xl\ncost: 3"}
    assert loaded(tmp_path, files) == [
        "families/c.yaml:native_px: Field required",
        "families/b.yaml:like: there is a mistake in the file of c",
        "families/a.yaml:like: there is a mistake in the file of b",
    ]
    assert [name in Family for name in "abcd"] == [False, False, False, True]


@pytest.mark.usefixtures("forgetful")
def test_a_broken_file_for_one_of_ours_leaves_ours_to_those_that_are_like_it(tmp_path: Path) -> None:
    [wrong] = loaded(tmp_path, {"a": "like: flux_1", "flux_1": "cost: 2"})
    assert wrong == "families/flux_1.yaml:native_px: Field required"
    assert TRAITS[Family("a")].cost == TRAITS[Family.FLUX_1].cost == 10


@pytest.mark.usefixtures("forgetful")
def test_a_file_that_is_like_ours_of_the_same_name_changes_only_what_it_says(tmp_path: Path) -> None:
    before = TRAITS[Family.FLUX_DEV]
    assert loaded(tmp_path, {"flux_dev": "like: flux_dev\ncost: 7"}) == []
    for _ in range(2):
        assert TRAITS[Family.FLUX_DEV] == before.model_copy(update={"cost": 7.0})
        assert list(families.lineage(Family.FLUX_DEV)) == [Family.FLUX_DEV, Family.FLUX_1]
        assert families.load(tmp_path) == []


@pytest.mark.usefixtures("forgetful")
def test_names_are_taken_however_they_are_written(tmp_path: Path) -> None:
    content = "like: stable_diffusion_xl\nbaselines: [Noob v5]\ngroups: [Noob XL]\ncivitai: [Noob]"
    assert loaded(tmp_path, {"Noob XL": content}) == []
    noob = Family("noob_xl")
    assert [family_of(name) for name in ("noob xl", "NOOB_XL", "Noob V5")] == [noob] * 3
    assert families.of_group("noob_xl") == {noob}
    assert civitai_fits("Noob 5", noob)
    assert not civitai_fits("noob 5", Family.STABLE_DIFFUSION_XL)


@pytest.mark.usefixtures("forgetful")
def test_files_that_are_not_read_are_named_unless_they_are_hidden(tmp_path: Path) -> None:
    files = {"a.yml": "native_px: 512", "b.YAML": "native_px: 512", "._c.yaml": "\0", "notes.txt": "x"}
    assert loaded(tmp_path, files) == [
        "families/a.yml:: is not read; its name must end in .yaml",
        "families/b.YAML:: is not read; its name must end in .yaml",
    ]


@pytest.mark.usefixtures("forgetful")
def test_a_thousand_mistakes_are_no_thousand_lines(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"a": f"native_px: 512\ngroups: [{', '.join(['1'] * 1000)}]"})
    assert len(found) == families.MOST_TOLD + 1
    assert found[-1] == "families/a.yaml:: 990 more mistakes"
    for number in range(families.MAX_FILES):
        (tmp_path / "families" / f"{number}.yaml").touch()
    assert families.load(tmp_path) == ["families:: holds more than 200 files, so none of them is read"]


@pytest.mark.usefixtures("forgetful")
def test_a_control_type_that_no_job_asks_for_is_told(owner: Path) -> None:
    more = "controlnets: {cany: {folder: controlnet, name: n.safetensors}}"
    (owner / "families" / "krea_2.yaml").write_text(KREA + more, "utf-8")
    [wrong] = everything_wrong(Library.load(packaged_folder(), owner), snapshot())
    assert wrong.startswith("families/krea_2.yaml:controlnets: cany is no control type; there are canny, ")


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("written", "key"),
    [
        (KREA.replace("scheduler: simple", "scheduler: simpel"), "scheduler"),
        (KREA + "schedulers: {gits: simpel}", "schedulers"),
    ],
)
def test_a_scheduler_that_nothing_knows_is_told(owner: Path, written: str, key: str) -> None:
    (owner / "families" / "krea_2.yaml").write_text(written, "utf-8")
    [wrong] = everything_wrong(Library.load(packaged_folder(), owner), snapshot())
    assert wrong.startswith(f"families/krea_2.yaml:{key}: simpel is no scheduler that is known here, ")
    assert "simple" in wrong


@pytest.mark.usefixtures("forgetful")
def test_hyphens_in_a_baseline_are_blanks_like_others(tmp_path: Path) -> None:
    assert family_of("Stable-Diffusion-XL") is Family.STABLE_DIFFUSION_XL
    assert not loaded(tmp_path, {"my-own": "like: stable-diffusion-xl"})
    assert family_of("my own") is family_of("my-own") is Family("my_own")
    assert [*families.lineage(Family("my_own"))][-1] is Family.STABLE_DIFFUSION_XL


def test_no_code_tells_families_apart_by_name() -> None:
    """What sets a family apart is data. The doubles of the Horde and the tiny builds know theirs by name."""
    named = re.compile(rf"Family\.[A-Z]|[\"']({'|'.join(Family)})[\"']")
    worker = Path(families.__file__).parents[1]
    found = [
        f"{path.relative_to(worker)}:{number}"
        for path in worker.rglob("*.py")
        if "demo" not in path.relative_to(worker).parts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if named.search(line)
    ]
    assert found == []


def test_families_for_newer_engines_are_not_served_by_the_pinned_one(library: Library) -> None:
    here = suited(library, snapshot())
    assert {family.value: reason for family, reason in here.unserved.items()} == {
        "anima": "it needs ComfyUI 0.11.0 or newer, and the engine is 0.3.75",
        "krea2_turbo": "the engine's CLIPLoader.type has no krea2",
    }
    assert everything_wrong(here, snapshot()) == []
    assert {each.name for each in here.beyond.templates} == {"anima/split", "krea2/split"}
    files = {"unet": "k", "text_encoder": "t", "vae": "v"}
    for family in here.unserved:
        model = ServedModel("new", family, files)
        assert here.unserved[family] in survey(here, [model], lambda _: True).reason(Ability.PICTURES)


def test_families_for_newer_engines_fit_the_nodes_of_one(library: Library) -> None:
    version, nodes = newer_snapshot()
    there = suited(suited(library, snapshot()).beyond, nodes, version)
    assert there.unserved == {}
    assert not any(audit_library(there, nodes).values())
    assert rehearse(there, nodes) == []
    models = [
        ServedModel(family.value, family, {"unet": "k", "text_encoder": "t", "vae": "v"})
        for family in (Family("anima"), Family("krea2_turbo"))
    ]
    found = survey(there, models, lambda _: True)
    able = (Ability.PICTURES, Ability.IMG2IMG, Ability.PAINTING, Ability.HIRES, Ability.LORAS)
    assert [found.reason(ability) for ability in able] == [""] * len(able)


@pytest.mark.parametrize(
    ("version", "served"),
    [("0.10.9", False), ("0.11.0", True), ("v0.33.0", True), ("1.0", True), ("0.33.0-dev+3", True), ("", False)],
)
def test_versions_are_compared_by_their_numbers(library: Library, version: str, served: bool) -> None:
    assert (Family("anima") not in suited(library, snapshot(), version).unserved) is served


@pytest.mark.usefixtures("forgetful")
def test_a_family_may_need_node_classes(library: Library, tmp_path: Path) -> None:
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "new.yaml").write_text("native_px: 512\nneeds: {nodes: [NewNode]}\n", "utf-8")
    assert families.load(tmp_path) == []
    assert suited(library, snapshot()).unserved[Family("new")] == "the engine has no node class NewNode"


FLUX = ServedModel("A Flux", Family.FLUX_1, {"checkpoint": "flux.safetensors"})
UNION_PRO_2, UNION_PRO = (
    "FLUX.1-dev-ControlNet-Union-Pro-2.0.safetensors",
    "FLUX.1-dev-ControlNet-Union-Pro.safetensors",
)
ANY_PICTURE = SourceImage("key", 64, 64)


def test_an_owners_controlnets_cost_nothing_where_they_are_not(library: Library) -> None:
    def without(*folders: str, here: Container[str] = ()) -> str:
        found = survey(library, [FLUX], lambda file: file.name in here or not file.name.startswith(folders))
        return found.reason(Ability.CONTROL)

    nets = tuple(each.file.name for choices in controlnets(Family.FLUX_1).values() for each in choices)
    assert without(*nets) == ""
    assert without(*nets, here=[UNION_PRO]) == ""
    # With the file, what makes its maps must be here too.
    assert "annotator/" in without(*nets, "annotator/", here=[UNION_PRO])
    assert without(*nets, "annotator/", here=["flux-canny-controlnet-v3.safetensors"]) == ""


@pytest.mark.parametrize(
    ("kind", "here", "file", "told"),
    [
        ("canny", {UNION_PRO_2: UNION_PRO_2, UNION_PRO: UNION_PRO}, UNION_PRO_2, "auto"),
        ("depth", {UNION_PRO: f"flux/{UNION_PRO}"}, f"flux/{UNION_PRO}", "hed/pidi/scribble/ted"),
        ("openpose", {UNION_PRO: UNION_PRO}, UNION_PRO, "normal"),
        ("hed", {UNION_PRO: UNION_PRO, "flux-hed-controlnet-v3.safetensors": "h"}, "h", "auto"),
        # Nothing is here: the job is refused for want of the usual one.
        ("canny", {}, UNION_PRO_2, "auto"),
        ("seg", {UNION_PRO: UNION_PRO}, None, None),
    ],
)
def test_of_an_owners_controlnets_the_first_that_is_here_is_used(
    library: Library, kind: str, here: dict[str, str], file: str | None, told: str | None
) -> None:
    request = read_request(
        {"control_type": kind}, model=FLUX, source=ANY_PICTURE, listed=lambda each: here.get(each.name)
    )
    assert (request.control_file, request.control_union_type) == (file, told)
    if file is None:
        with pytest.raises(JobNotServable, match="there is no ControlNet for seg on flux_1"):
            select(library, request)
    else:
        graph = materialise(select(library, request), request).graph
        [union] = [node for node in graph.values() if node["class_type"] == "SetUnionControlNetType"]
        assert union["inputs"]["type"] == told
