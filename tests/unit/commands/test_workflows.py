"""`workflows list` and `workflows check`: what an owner reads about templates, abilities and the feature level."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.commands.workflows import app
from worker.workflows import packaged_folder
from worker.workflows.capabilities import Ability
from worker.workflows.library import Library

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


def test_the_list_tells_of_every_workflow_and_kind_of_job_and_the_level(run):
    code, said = run("list")
    assert code == 0
    library = Library.load()
    assert all(piece.name in said for piece in (*library.templates, *library.fragments))
    assert all(ability.value in said for ability in Ability)
    assert "Feature level" in said


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
