"""~ in a path of the owner's, for users that have a home folder and for those that have none."""

from pathlib import Path
from typing import Any, NoReturn

import pytest

from worker.app.state_dir import workers_folder
from worker.engine.install import command, uv
from worker.engine.install.layout import runtime_folder
from worker.errors import ConfigError
from worker.models.catalog.custom import _read_file
from worker.models.catalog.records import Purpose
from worker.owner_path import owner_path

pwd = pytest.importorskip("pwd", reason="Windows has no such list of users")

UNKNOWN = "~ is used, but the home folder is unknown"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in /etc/passwd."""

    def unknown(*_: Any) -> NoReturn:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_path_begins_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert owner_path("~/models") == tmp_path / "models"


@pytest.mark.usefixtures("homeless")
def test_the_folders_of_the_environment_are_refused_in_a_sentence_without_a_home_folder() -> None:
    with pytest.raises(ConfigError, match=UNKNOWN):
        runtime_folder(Path("/"), {"AIWORKER_RUNTIME_DIR": "~/runtime"})
    with pytest.raises(ConfigError, match=UNKNOWN):
        workers_folder(Path("/"), {"AIWORKER_STATE_DIR": "~/state"})


@pytest.mark.usefixtures("homeless")
def test_a_folder_of_wheels_without_a_home_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=UNKNOWN):
        uv.environment(tmp_path, {"AIWORKER_WHEELS": "~/wheels"})


@pytest.mark.usefixtures("homeless")
def test_a_custom_model_without_a_home_folder_is_left_out_with_the_reason() -> None:
    with pytest.raises(ValueError, match=UNKNOWN):
        _read_file(Purpose.CHECKPOINT, "~/a.safetensors")


@pytest.mark.usefixtures("homeless")
def test_the_set_up_says_it_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AIWORKER_RUNTIME_DIR", "~/runtime")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert command.main(["--check"]) == 1
    assert UNKNOWN in capsys.readouterr().err
