"""`config check` reports everything that `run` would refuse or warn about, before anything is downloaded."""

from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from worker.commands.config import app, check, show

KEY = "k" * 22


@pytest.fixture
def told(tmp_path, capsys, monkeypatch):
    """`told(text)`: what `config check` prints for these settings, and whether they can be used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIWORKER_RUNTIME_DIR", str(tmp_path / "runtime"))

    def check_text(text, mode=0o600):
        file = Path("bridgeData.yaml")
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        usable = True
        try:
            check(file)
        except typer.Exit as done:
            usable = done.exit_code == 0
        return capsys.readouterr().out, usable

    return check_text


GOOD = f"dreamer_name: mine\napi_key: {KEY}\n"


def test_a_key_without_effect_is_told_with_the_reason(told):
    out, usable = told(GOOD + "very_fast_disk_mode: true\ncapture_kudos_training_data: true")
    assert "note: very_fast_disk_mode has no effect. " in out
    assert "note: capture_kudos_training_data has no effect. " in out
    assert usable


def test_cards_that_are_not_there_are_named(told):
    out, usable = told(GOOD + "devices: [7]\n")
    assert "devices lists GPU numbers" in out
    assert not usable


def test_a_key_without_effect_that_changes_nothing_is_not_mentioned(told):
    assert "note" not in told(GOOD + "very_fast_disk_mode: false\nmax_power: 32")[0]


def test_the_unchanged_template_cannot_be_used(told):
    out, usable = told((Path(__file__).parents[3] / "bridgeData_template.yaml").read_text(encoding="utf-8"))
    assert "error: bridgeData.yaml:14: the API key is the anonymous one" in out
    assert "error: bridgeData.yaml:11: the worker still has the template's name" in out
    assert not usable


def test_custom_models_are_checked_with_their_lines(told):
    out, usable = told(
        GOOD + "models_to_load: []\ncustom_models:\n"
        "  - {name: A, baseline: SDXL9, filepath: a.safetensors}\n"
        "  - {name: B, baseline: flux_dev, filepath: b.gguf}\n"
        "  - {name: C, baseline: stable_diffusion_1}\n"
        "  - {name: D, baseline: stable_diffusion_1, filepath: gone.safetensors}\n"
    )
    for line, name in ((5, "A"), (6, "B"), (8, "D")):
        assert f"warning: bridgeData.yaml:{line}: custom_models: {name}: " in out
    assert "entry 3 (C) is left out; it has no filepath" in out
    assert usable


def test_mistakes_in_templates_are_told(told, tmp_path):
    (tmp_path / "own" / "t").mkdir(parents=True)
    (tmp_path / "own" / "t" / "graph.json").write_text("{}", encoding="utf-8")
    out, usable = told(GOOD + f"workflows_dir: {tmp_path / 'own'}\n")
    assert f"warning: workflows_dir: {tmp_path / 'own'}: holds no template; " in out
    assert "workflows_dir: t/graph.json: is not read; a template lies two folders deep" in out
    assert "Run: horde-bridge workflows check" in out
    assert usable


@pytest.mark.usefixtures("forgetful")
def test_a_custom_model_may_have_a_family_of_the_owners(told, tmp_path):
    (tmp_path / "own" / "families").mkdir(parents=True)
    (tmp_path / "own" / "families" / "krea_2.yaml").write_text("native_px: 1024", encoding="utf-8")
    (tmp_path / "a.safetensors").touch()
    model = f"custom_models:\n  - {{name: A, baseline: krea 2, filepath: {tmp_path / 'a.safetensors'}}}\n"
    assert "its baseline 'krea 2' is none of" in told(GOOD + model)[0]
    assert "its baseline" not in told(GOOD + f"workflows_dir: {tmp_path / 'own'}\n" + model)[0]


def test_a_key_that_others_can_read_is_doubtful(told):
    out, usable = told(GOOD, mode=0o644)
    assert "bridgeData.yaml contains a key and can be read by other users. Run: chmod 600 bridgeData.yaml" in out
    assert usable
    assert "chmod" not in told(GOOD, mode=0o600)[0]


def test_folders_that_cannot_be_used_are_named(told, tmp_path):
    (tmp_path / "file").touch()
    out, usable = told(GOOD + "cache_home: file/models\nextra_stable_diffusion_models_folders: [nowhere]")
    assert (
        f"The cache_home folder {tmp_path / 'file/models'} cannot be used: {tmp_path / 'file'} is not a folder" in out
    )
    assert "there is no folder nowhere" in out
    assert not usable


def test_a_folder_of_windows_is_named_as_that(told):
    for path in (r"C:\Users\me\models", "D:/models"):
        out, usable = told(GOOD + f"cache_home: '{path}'")
        assert "it is a path of Windows" in out
        assert not usable


def test_a_misspelt_command_is_named_before_any_list_was_fetched(told):
    out, _ = told(GOOD + "models_to_load:\n- topp 2\n- ALL SDXLL\n- TOP 3\n- all sdxl\n- Deliberate\n- all models\n")
    assert [line.split("models_to_load: ")[1] for line in out.splitlines() if "may be meant" in line] == [
        "'topp 2' may be meant as 'TOP 2'.",
        "'ALL SDXLL' may be meant as 'ALL SDXL'.",
    ]


def test_the_settings_shown_are_yaml(tmp_path, capsys):
    file = tmp_path / "bridgeData.yaml"
    file.write_text(GOOD + "max_power: 32", encoding="utf-8")
    show(config=file)
    out = capsys.readouterr().out
    assert yaml.safe_load(out)["max_power"] == 32
    assert out.splitlines()[1] == "dreamer_name: mine"


def test_a_variable_that_no_library_can_use_is_named(told, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://p:x")
    out, usable = told(GOOD)
    assert "error: The environment variable HTTPS_PROXY" in out
    assert not usable


def test_names_of_models_are_checked_by_the_lists_of_the_settings(told, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "stable_diffusion.json").write_text(
        '{"Deliberate": {"name": "Deliberate", "baseline": "stable diffusion 1", "type": "ckpt", "config": {"files": '
        '[{"path": "d.safetensors"}], "download": [{"file_name": "d.safetensors", "file_url": "https://h/d"}]}}}'
    )
    out, usable = told(GOOD + "model_reference: lists\nmodels_to_load: [Deliberat]")
    assert "Did you mean 'Deliberate'?" in out
    assert "error: bridgeData.yaml:4: models_to_load names no model that can be served." in out
    assert not usable
    assert told(GOOD + "model_reference: lists\nmodels_to_load: [Deliberate]")[1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["mine.yaml"], 0),
        (["--config", "mine.yaml"], 0),
        (["mine.yaml", "--config", "mine.yaml"], 0),
        (["mine.yaml", "--config", "other.yaml"], 2),
    ],
)
def test_the_file_is_named_as_for_the_other_commands_or_by_itself(tmp_path, monkeypatch, arguments, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIWORKER_RUNTIME_DIR", str(tmp_path / "runtime"))
    Path("mine.yaml").write_text(GOOD, encoding="utf-8")
    done = CliRunner().invoke(app, ["check", *arguments])
    assert done.exit_code == code
    assert ("mine.yaml can be used." in done.output) is (code == 0)
