"""`workflows list` and `workflows check`: what an owner reads about templates, abilities and the feature level."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.app.state_dir import engines_folder, worker_folder
from worker.commands import workflows
from worker.commands.workflows import app
from worker.config.schema import BridgeData
from worker.workflows import packaged_folder
from worker.workflows.capabilities import Ability
from worker.workflows.library import Library
from worker.workflows.node_classes import KEPT_FILE, ObjectInfo, keep_answer, snapshot
from worker.workflows.template_check import rehearse

HORDE = BridgeData.model_fields["horde_url"].default
CONFIG = "api_key: '0000000000'\ndreamer_name: x\nallow_img2img: true\nallow_controlnet: true\nallow_lora: true\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command's exit code and what it says, with these settings and an empty models folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIWORKER_CACHE_HOME", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str, config: str = CONFIG) -> tuple[int, str]:
        (tmp_path / "bridgeData.yaml").write_text(config, "utf-8")
        result = CliRunner().invoke(app, list(arguments))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return invoke


@pytest.fixture
def own_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the templates only an owner's are filled in for every kind of job; ours are where they are checked alone."""
    ours = {template.name for template in Library.load().templates}

    def rehearse_own(library: Library, object_info: ObjectInfo) -> list[str]:
        own = tuple(template for template in library.templates if template.name not in ours)
        return rehearse(replace(library, templates=own), object_info)

    monkeypatch.setattr(workflows, "rehearse", rehearse_own)


def test_the_list_tells_of_every_workflow_and_kind_of_job_and_the_level(run):
    code, said = run("list")
    assert code == 0
    library = Library.load()
    assert all(piece.name in said for piece in (*library.templates, *library.fragments))
    assert all(ability.value in said for ability in Ability)
    assert "Feature level" in said


@pytest.mark.usefixtures("own_rehearsed")
def test_the_check_tells_what_is_wrong_only_with_a_whole_graph(run, tmp_path):
    own = tmp_path / "own" / "sd" / "mine"
    shutil.copytree(packaged_folder() / "stable_diffusion" / "checkpoint", own)
    manifest = own / "manifest.yaml"
    manifest.write_text(manifest.read_text("utf-8").replace("{from: clip_skip, via: negate}", "clip_skip"), "utf-8")
    code, said = run("check", config=f"{CONFIG}workflows_dir: {tmp_path / 'own'}\n")
    assert (code, said.splitlines()) == (
        1, ["sd/mine/graph.json:clip_skip:stop_at_clip_layer: 1 is not within -24 to -1"],
    )  # fmt: skip
    assert run("check")[0] == 0


def test_the_list_as_json_gives_the_reason_for_what_is_not_offered(run):
    code, said = run("list", "--json")
    answer = json.loads(said)
    assert code == 0
    assert answer["models_are_assumed"]
    assert answer["abilities"]["txt2img"] == ""
    # Nothing was downloaded yet.
    assert "not here" in answer["abilities"]["controlnet"]
    assert answer["not_offered"]["allow_controlnet"] == answer["abilities"]["controlnet"]
    assert answer["offered"]["switches"] == ["allow_img2img", "allow_lora"]
    assert answer["offered"]["agent"].startswith(f"AI Horde Worker reGen:{answer['offered']['level']}.")


BROKEN = """
description: Several mistakes at once.
serves: {families: [stable_diffusion_1], modes: [txt2img]}
nodes: {noise: EmptyImage, absent: KSampler}
bind: {noise.width: width, noise.depth: height, noise.batch_size: prompt}
ports: {}
outputs: [output]
ignores: [negative_prompt, seed, steps, cfg, sampler, scheduler, denoise, clip_skip]
"""
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
          "_meta": {"title": "noise"}},
    "3": {"class_type": "KSampler", "inputs": {"model": ["9", 0]}},
    "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}, "_meta": {"title": "output"}},
}  # fmt: skip


@pytest.mark.usefixtures("own_rehearsed")
def test_check_names_every_mistake_of_an_owners_template_at_once(run, tmp_path: Path):
    own = tmp_path / "mine" / "own" / "noise"
    own.mkdir(parents=True)
    (own / "manifest.yaml").write_text(BROKEN, "utf-8")
    (own / "graph.json").write_text(json.dumps(GRAPH), "utf-8")
    code, said = run("check", config=f"{CONFIG}workflows_dir: {tmp_path / 'mine'}\n")
    assert code == 1
    lines = said.splitlines()
    assert all(line.startswith("own/noise/") for line in lines)
    assert len(lines) == len(set(lines))
    for what in (
        "nodes.absent: the graph has no node with this title",
        "bind.noise.depth: the node has no such input",
        "ports: the port image is missing",
        "manifest.yaml:noise:batch_size: takes INT, but is bound to str",
        "graph.json:noise: EmptyImage is not an approved node class",
        "graph.json:3:model: comes from node 9, which does not exist",
        "graph.json:3:seed: KSampler needs this input",
    ):
        assert any(what in line for line in lines), (what, said)


def test_check_of_our_own_workflows_finds_nothing(run):
    code, said = run("check")
    assert code == 0
    assert "are fine" in said


def own_copy(folder: Path, change=lambda graph: None) -> None:
    """Our template for Stable Diffusion as an owner's own, its graph changed."""
    shutil.copytree(packaged_folder() / "stable_diffusion" / "checkpoint", folder)
    graph = json.loads((folder / "graph.json").read_text("utf-8"))
    change(graph)
    (folder / "graph.json").write_text(json.dumps(graph), "utf-8")


def with_speed_up(graph) -> None:
    loader = next(node_id for node_id, node in graph.items() if node["class_type"] == "CheckpointLoaderSimple")
    inputs = {"lora_name": "fast.safetensors", "strength_model": 1.0, "strength_clip": 1.0}
    graph["90"] = {
        "class_type": "LoraLoader",
        "inputs": {**inputs, "model": [loader, 0], "clip": [loader, 1]},
        "_meta": {"title": "speed"},
    }


@pytest.mark.usefixtures("own_rehearsed")
def test_a_file_that_a_template_names_is_looked_for_in_the_models_folder(run, tmp_path: Path):
    own_copy(tmp_path / "mine" / "own" / "fast", with_speed_up)
    config = f"{CONFIG}workflows_dir: {tmp_path / 'mine'}\n"
    code, said = run("check", config=config)
    assert (code, said.splitlines()) == (
        1, ["own/fast/graph.json:speed:lora_name: needs loras/fast.safetensors, not here"],
    )  # fmt: skip
    listed = {row["name"]: row["off"] for row in json.loads(run("list", "--json", config=config)[1])["workflows"]}
    assert "needs loras/fast.safetensors" in listed["own/fast"]
    assert listed["stable_diffusion/checkpoint"] == ""
    (tmp_path / "models" / "lora").mkdir(parents=True)
    (tmp_path / "models" / "lora" / "fast.safetensors").touch()
    assert run("check", config=config)[0] == 0


@pytest.mark.usefixtures("own_rehearsed")
def test_remarks_are_told_and_are_no_mistakes(run, tmp_path: Path):
    own_copy(
        tmp_path / "mine" / "own" / "old", lambda graph: next(iter(graph.values()))["inputs"].update(upload="image")
    )
    code, said = run("check", config=f"{CONFIG}workflows_dir: {tmp_path / 'mine'}\n")
    assert code == 0
    assert said.startswith("remark: own/old/graph.json:")


@pytest.mark.usefixtures("own_rehearsed")
def test_node_classes_of_an_owners_own_comfyui_are_left_to_its_engine(run, tmp_path: Path):
    def with_own_node(graph) -> None:
        graph["91"] = {"class_type": "TheirOwnNode", "inputs": {"a": 1}, "_meta": {"title": "own"}}

    own_copy(tmp_path / "mine" / "own" / "node", with_own_node)
    config = f"{CONFIG}workflows_dir: {tmp_path / 'mine'}\napproved_node_classes: [TheirOwnNode]\n"
    assert run("check", config=config)[0] == 1
    config += f"comfyui_path: {tmp_path}\n"
    code, said = run("check", config=config)
    assert code == 0
    assert "TheirOwnNode is unknown to stock ComfyUI; it is checked when your engine starts" in said
    listed = {row["name"]: row["off"] for row in json.loads(run("list", "--json", config=config)[1])["workflows"]}
    assert listed["own/node"] == ""


@pytest.mark.usefixtures("own_rehearsed")
def test_node_classes_of_an_owners_own_comfyui_are_known_from_its_last_run(run, tmp_path: Path, monkeypatch):
    def with_own_node(graph) -> None:
        graph["91"] = {"class_type": "TheirOwnNode", "inputs": {"a": ["1", 0]}, "_meta": {"title": "own"}}

    own_copy(tmp_path / "mine" / "own" / "node", with_own_node)
    monkeypatch.setenv("AIWORKER_STATE_DIR", str(tmp_path / "state"))
    comfyui = tmp_path / "comfyui"
    config = f"{CONFIG}workflows_dir: {tmp_path / 'mine'}\napproved_node_classes: [TheirOwnNode]\n"
    config += f"comfyui_path: {comfyui}\n"
    home = worker_folder(tmp_path, {"AIWORKER_STATE_DIR": str(tmp_path / "state")}, name="x", horde_url=HORDE)
    engines = engines_folder(home)
    engines.mkdir(parents=True)
    own = {"input": {"required": {"b": ["INT"]}}, "output": ["IMAGE"], "output_node": False}

    keep_answer(engines, comfyui, {**snapshot(), "TheirOwnNode": own}, "0.4.0")
    code, said = run("check", config=config)
    assert code == 1
    assert "own/node/graph.json:own:b: TheirOwnNode needs this input" in said.splitlines()

    keep_answer(engines, tmp_path / "another", {**snapshot(), "TheirOwnNode": own}, "0.4.0")
    assert run("check", config=config)[0] == 0
    (engines / KEPT_FILE).write_text("{", "utf-8")
    assert run("check", config=config)[0] == 0


def test_a_job_is_explained_with_the_models_of_the_settings_that_are_named(run, tmp_path):
    """Beside them lies a bridgeData.yaml that knows no such model."""
    lists = Path(__file__).parents[2] / "fixtures" / "models"
    named = tmp_path / "other.yaml"
    named.write_text(f"{CONFIG}model_reference: {lists}\n", "utf-8")
    model = next(iter(json.loads((lists / "stable_diffusion.json").read_text("utf-8"))))
    job = tmp_path / "job.json"
    payload = {"prompt": "fox", "width": 512, "height": 512, "ddim_steps": 4}
    job.write_text(json.dumps({"id": "a", "ids": ["a"], "model": model, "payload": payload}), "utf-8")
    code, said = run("explain", str(job), "--config", str(named))
    assert (code, "serves it" in said) == (0, True), said
