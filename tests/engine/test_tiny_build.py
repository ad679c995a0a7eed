"""The build of tiny models: what it keeps, mends and refuses, and which files fit one another."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from worker.demo.tiny.recipes import TINY_FILES, build_command, engine_tree, models_folder

pytestmark = [pytest.mark.engine, pytest.mark.cpu]


def shapes(path: Path) -> dict[str, list[int]]:
    with safe_open(path, framework="np") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping


def test_what_makes_models_draw_on_nothing_fits_their_layers(tiny) -> None:
    sdxl = shapes(tiny.models / TINY_FILES["sdxl"].path)
    changes = shapes(tiny.models / TINY_FILES["layer_xl_transparent_conv"].path)
    assert changes
    for name, shape in changes.items():
        layer, kind, index = name.split("::")
        assert (kind, index) == ("diff", "0")
        assert sdxl[f"model.{layer}"] == shape
    deep = shapes(tiny.models / TINY_FILES["sd15_deep"].path)
    units = shapes(tiny.models / TINY_FILES["layer_sd15_transparent_attn"].path)
    attentions = [name for name in deep if name.endswith(".to_q.weight")]
    assert {int(name.split(".")[2]) for name in units} == set(range(len(attentions)))
    assert len(attentions) == 32


def run_build(python: Path, comfyui: Path, out: Path, *names: str) -> subprocess.CompletedProcess[str]:
    command = build_command(python, comfyui, out, names)
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def test_a_whole_file_is_kept_and_a_broken_one_made_again(quick_python, comfyui_source, tmp_path) -> None:
    path = models_folder(tmp_path) / TINY_FILES["flux_vae"].path

    def build() -> dict[str, Any]:
        done = run_build(quick_python, comfyui_source, tmp_path, "flux_vae")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    report = build()
    content = path.read_bytes()
    assert report["name"] == "flux_vae"
    assert report["path"] == str(path)
    assert report["bytes"] == len(content)
    made = path.stat().st_mtime_ns
    build()
    assert path.stat().st_mtime_ns == made
    path.write_bytes(content[:1000])
    build()
    assert path.read_bytes() == content


def test_an_unknown_name_is_refused(quick_python, comfyui_source, tmp_path) -> None:
    done = run_build(quick_python, comfyui_source, tmp_path, "sd14")
    assert done.returncode == 2
    assert "sd14" in done.stderr


def test_a_copy_is_no_source_for_another(tiny, tmp_path) -> None:
    done = run_build(tiny.python, tiny.comfyui, tmp_path, "flux_vae")
    assert done.returncode == 1
    assert str(tiny.comfyui.resolve()) in done.stderr
    assert "Traceback" not in done.stderr
    assert not engine_tree(tmp_path).exists()


def test_the_engine_tree_is_a_copy_with_small_text_encoders(tiny, comfyui_source) -> None:
    real, small = (
        json.loads((tree / "comfy" / "sd1_clip_config.json").read_text()) for tree in (comfyui_source, tiny.comfyui)
    )
    assert small["num_hidden_layers"] < real["num_hidden_layers"]
    assert small["hidden_size"] == real["hidden_size"]
