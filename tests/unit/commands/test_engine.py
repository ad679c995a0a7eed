"""`engine …`: what an owner types to have several ComfyUIs, and what he reads."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.engine.fake_trees import fake_tree
from worker.commands import engine as commands
from worker.commands.engine import app
from worker.engine.install.layout import Runtime, environment_python
from worker.engine.versions.shelf import Shelf
from worker.engine.versions.state import Verdict
from worker.engine.versions.trial_report import Compared, TrialReport
from worker.errors import EngineChangeRefused, WorkerError

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """What a command says; its errors are raised. The runtime folder holds an installed engine."""
    folder = tmp_path / "runtime"
    fake_tree(folder / "comfyui", "0.3.75")
    python = environment_python(folder / "engine")
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIWORKER_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    # The Python of the tests passes for one that runs a ComfyUI.
    monkeypatch.setattr(commands, "PACKAGES", ("json",))

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


@pytest.fixture
def added(run: Run, tmp_path: Path) -> str:
    """The name of an engine that was added from a folder."""
    fake_tree(tmp_path / "newer", "0.33.0")
    assert "0.33.0 is here" in run("add", "newer", "--python", sys.executable)
    return "0.33.0"


def listed(run: Run) -> dict[str, dict[str, object]]:
    return {engine["name"]: engine for engine in json.loads(run("list", "--json"))["engines"]}


def test_an_engine_is_added_used_gone_back_from_and_removed(run: Run, added: str) -> None:
    assert listed(run)[added] | {"bytes": 0} == {
        "name": added, "comfyui": "0.33.0", "in_use": False, "running": False, "bytes": 0,
        "origin": str(Path("newer").absolute()), "trial": None,
    }  # fmt: skip

    said = run("use", added)
    assert "installed is kept" in said
    assert "was not tried" in said
    assert listed(run)[added]["in_use"] is True
    assert "in use already" in run("use", added)
    with pytest.raises(EngineChangeRefused, match="in use"):
        run("remove", added)

    assert "installed is used again" in run("rollback")
    assert "the owner went back" in run("list")
    with pytest.raises(EngineChangeRefused, match="no engine before"):
        run("rollback")
    assert "is removed" in run("remove", added)
    assert list(listed(run)) == ["installed"]


def test_where_the_owner_has_a_comfyui_of_his_own_that_is_said(run: Run, added: str, tmp_path: Path) -> None:
    (tmp_path / "bridgeData.yaml").write_text(
        f"api_key: '0000000000'\ndreamer_name: x\ncomfyui_path: {tmp_path / 'newer'}\n", encoding="utf-8"
    )
    assert "goes first" in run("use", added)
    assert "none of these" in run("list")
    assert listed(run)[added]["in_use"] is False


def test_an_engine_that_is_gone_is_told_as_that(run: Run, added: str) -> None:
    run("use", added)
    (Shelf(Runtime.locate()).need(added).comfyui / "main.py").unlink()
    assert f"{added} should be in use, but is gone or broken; installed takes its place" in run("list")


def trial_that_finds(monkeypatch: pytest.MonkeyPatch, **found: object) -> None:
    report = TrialReport("0.33.0", "0.33.0", "installed", "0.3.75", at=5.0, **found)  # type: ignore[arg-type]
    monkeypatch.setattr(commands, "run_trial", lambda *_arguments, **_named: report)


def test_what_a_trial_found_is_told_remembered_and_asked_about(
    run: Run, added: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Compared("Tiny SDXL: text", "Tiny SDXL", 200, 31.5, 1.0, 1.0)
    trial_that_finds(monkeypatch, templates_lost={"flux/x": ["no node class Y"]}, pictures=[picture])

    with pytest.raises(EngineChangeRefused, match=r"1 template lost: flux/x\. 1 picture differs"):
        run("try", added)
    assert listed(run)[added]["trial"] == {
        "takes": False,
        "summary": "1 template lost: flux/x. 1 picture differs: Tiny SDXL: text by up to 200 of 255.",
    }
    with pytest.raises(EngineChangeRefused, match="--anyway"):
        run("use", added)
    assert listed(run)["installed"]["in_use"] is True
    assert "is used from" in run("use", added, "--anyway")


def test_an_equal_engine_is_told_as_that_and_used_without_a_question(
    run: Run, added: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial_that_finds(monkeypatch, templates_kept=9, pictures=[Compared("a", "b", 0, 0.0, 2.0, 1.0)])
    said = run("try", added)
    assert "9 work on both" in said
    assert "1 of 1 are equal bit for bit" in said
    assert "0.50 times as long" in said
    assert "was not tried" not in run("use", added)


def test_a_trial_of_some_jobs_is_not_remembered(run: Run, added: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trial_that_finds(monkeypatch, pictures=[Compared("a", "b", 0, 0.0, 1.0, 1.0)])
    told = json.loads(run("try", added, "--only", "SDXL", "--json"))
    assert told["takes"] is True
    assert listed(run)[added]["trial"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["use", "nope"], "no engine 'nope'"),
        (["try", "installed"], "in use itself"),
        (["remove", "installed"], "not removed"),
        (["add", "nowhere"], "no folder"),
        (["add", "newer", "--python", sys.executable, "--name", "a/b"], "can't be called"),
        (["add", "newer", "--python", "/no/python", "--name", "other"], "no Python"),
        (["add", "newer", "--python", "/bin/true", "--name", "other"], "no Python"),
        (["add", "newer", "--python", sys.executable], "already"),
    ],
)
def test_a_wrong_word_is_refused_with_what_to_do(run: Run, added: str, arguments: list[str], said: str) -> None:
    with pytest.raises(WorkerError, match=said) as refused:
        run(*arguments)
    assert refused.value.remedy or "installed engine" in refused.value.message
    assert list(listed(run)) == ["installed", added]


def test_verdicts_are_of_the_engine_they_were_found_of(run: Run, added: str) -> None:
    shelf = Shelf(Runtime.locate())
    shelf.change(lambda state: state.with_verdict(added, Verdict(5.0, "installed", takes=True, summary="equal")))
    run("remove", added)
    assert shelf.state.verdicts == {}


def test_a_python_without_what_comfyui_needs_is_refused_before_anything_is_copied(
    run: Run, added: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PACKAGES", ("json", "torch_of_nobody", "numpy_of_nobody"))
    with pytest.raises(EngineChangeRefused, match="lacks torch_of_nobody, numpy_of_nobody, without which"):
        run("add", "newer", "--python", sys.executable, "--name", "other")
    assert list(listed(run)) == ["installed", added]


def test_a_comfyui_that_is_too_old_is_refused_by_its_version(run: Run, added: str, tmp_path: Path) -> None:
    fake_tree(tmp_path / "older", "0.3.74")
    with pytest.raises(EngineChangeRefused, match=r"ComfyUI 0\.3\.74, and the worker needs 0\.3\.75 or newer"):
        run("add", "older", "--python", sys.executable)
    assert list(listed(run)) == ["installed", added]
