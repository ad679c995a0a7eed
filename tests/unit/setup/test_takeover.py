"""A folder of reGen is taken over: a made-up one with its real layout."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.commands import program
from worker.config.load import load_config
from worker.errors import ConfigError
from worker.setup.takeover import described, plan_takeover

SETTINGS = """\
# my worker
dreamer_name: "Fox in the Snow"  # mine
api_key: "0123456789012345678901"
cache_home: "models"
models_to_load:
  - "TOP 3"
custom_models:
  - name: "My Model"
    baseline: stable_diffusion_1
    filepath: models/custom/mine.safetensors
scribe_name: "An old key"
"""


@pytest.fixture
def regen(tmp_path: Path) -> Path:
    folder = tmp_path / "horde-worker-reGen"
    for name in ("compvis", "lora", "ti", "controlnet", "clip", "esrgan", "custom", "horde_model_reference"):
        (folder / "models" / name).mkdir(parents=True)
    for name in ("conda/envs/linux/bin", "logs", "horde_worker_regen"):
        (folder / name).mkdir(parents=True)
    for name in (
        "compvis/Deliberate",
        "lora/a_1",
        "lora/b_2",
        "custom/mine.safetensors",
    ):
        (folder / "models" / f"{name}.safetensors").write_bytes(bytes(100))
    (folder / "models/compvis/Deliberate.sha256").write_text("0" * 64, encoding="utf-8")
    (folder / "bridgeData.yaml").write_text(SETTINGS, encoding="utf-8")
    (folder / ".env").write_text("CIVIT_API_TOKEN=abc\n", encoding="utf-8")
    (folder / "run_worker.py").write_text("import time; print(1, flush=True); time.sleep(60)", encoding="utf-8")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "horde-bridge"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def take_over(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(program.app_of(["takeover", "run"]), ["takeover", *arguments])
    error = "" if done.exception is None or isinstance(done.exception, SystemExit) else str(done.exception)
    return done.exit_code, done.output + error


def test_settings_are_copied_and_models_used_where_they_are_and_nothing_of_the_other_is_changed(
    regen: Path, here: Path
) -> None:
    before = everything(regen)
    code, said = take_over(str(regen), "--yes")
    assert code == 0
    assert "1 image model, 2 LoRAs" in said
    assert everything(regen) == before
    data = load_config(here / "bridgeData.yaml", environment={}).data
    assert data.cache_home == str(regen / "models")
    assert data.dreamer_name == "Fox in the Snow"
    assert [str(model.filepath) for model in data.custom_models] == [str(regen / "models/custom/mine.safetensors")]
    assert "# mine" in (here / "bridgeData.yaml").read_text(encoding="utf-8")
    assert (here / ".env").read_text(encoding="utf-8") == "CIVIT_API_TOKEN=abc\n"
    assert (here / "bridgeData.yaml").stat().st_mode & 0o077 == 0


def test_without_a_terminal_and_without_yes_it_says_what_it_would_do_and_does_nothing(regen: Path, here: Path) -> None:
    code, said = take_over(str(regen))
    assert code == 1
    assert "used where they are" in said
    assert "--yes" in said
    assert not list(here.iterdir())


def test_what_is_here_already_is_kept(regen: Path, here: Path) -> None:
    (here / "bridgeData.yaml").write_text('dreamer_name: "Before"\n', encoding="utf-8")
    (here / ".env").write_text("MINE=1\n", encoding="utf-8")
    code, said = take_over(str(regen), "--yes")
    assert code == 0
    assert "is kept as it is beside it" in said
    [kept] = here.glob("bridgeData.yaml.before-*")
    assert "Before" in kept.read_text(encoding="utf-8")
    assert (here / ".env").read_text(encoding="utf-8") == "MINE=1\n"


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("horde_url: https://aihorde.net/api/", "models"),
        ("cache_home: ./models/", "models"),
        ("cache_home: ../common models", "../common models"),
        ("cache_home: /data/models", "/data/models"),
        ("cache_home: models;other", "models"),
        ("cache_home: ~/models", "~/models"),
    ],
)
def test_the_folder_of_models_is_understood_as_the_other_worker_does(
    regen: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: str, place: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (regen / "bridgeData.yaml").write_text(f"{written}\ndreamer_name: Fox\n", encoding="utf-8")
    expected = (regen / place.replace("~", str(tmp_path))).resolve()
    assert plan_takeover(regen).models == expected


def test_a_worker_that_still_runs_there_is_named(regen: Path, here: Path) -> None:
    with subprocess.Popen([sys.executable, "run_worker.py"], cwd=regen, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        lines = described(plan_takeover(regen), regen, here)
        running.kill()
    assert any(f"process {running.pid}" in line for line in lines)


def test_a_folder_without_settings_and_this_folder_are_refused(here: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no bridgeData\.yaml"):
        plan_takeover(tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        plan_takeover(tmp_path / "none")
    assert "is this folder" in take_over(str(here), "--yes")[1]
