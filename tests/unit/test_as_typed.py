"""What a message tells an owner to type works where he is."""

import re
from pathlib import Path
from typing import Any

import pytest

from worker import as_typed as module
from worker import logs
from worker.as_typed import COMMANDS, LAUNCHERS, VARIABLE, as_typed
from worker.commands import program
from worker.commands.output import answer, complain
from worker.engine.install.shell import Screen

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """From a clone's folder, by `./horde-bridge.sh`."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "horde-bridge.sh")
    return tmp_path


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("`horde-bridge doctor` checks.", "`./horde-bridge.sh doctor` checks."),
        ("`horde-bridge` serves.", "`./horde-bridge.sh` serves."),
        ("run update-runtime --repair", "run ./update-runtime.sh --repair"),
        ("Run update-runtime.", "Run ./update-runtime.sh."),
        ("Name another: horde-bridge engine list.", "Name another: ./horde-bridge.sh engine list."),
        ("`horde-bridge --version`", "`./horde-bridge.sh --version`"),
        # no command, or written out already
        ("horde-bridge: there is no such file", "horde-bridge: there is no such file"),
        ("There is no service horde-bridge.", "There is no service horde-bridge."),
        ("/srv/horde-bridge models", "/srv/horde-bridge models"),
        ("./horde-bridge.sh doctor", "./horde-bridge.sh doctor"),
        ("./update-runtime.sh, update-runtime.cmd", "./update-runtime.sh, update-runtime.cmd"),
        ("horde-bridge runs", "horde-bridge runs"),
        ("pip install --upgrade horde-bridge", "pip install --upgrade horde-bridge"),
    ],
)  # fmt: skip
def test_commands_are_named_by_the_launcher_and_nothing_else_is_touched(launched, written, typed):
    assert as_typed(written) == typed


def test_windows_gets_its_own_files(launched, monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "win32")
    monkeypatch.setenv(VARIABLE, "horde-bridge-directml.cmd")
    assert as_typed("`horde-bridge setup`, then update-runtime") == (
        "`.\\horde-bridge-directml.cmd setup`, then .\\update-runtime.cmd"
    )


def test_from_another_folder_the_whole_path_is_named(launched, monkeypatch, tmp_path):
    folder = tmp_path / "my folder"
    folder.mkdir()
    monkeypatch.setattr(module, "ROOT", folder)
    assert as_typed("`horde-bridge doctor`") == f"`'{folder}/horde-bridge.sh' doctor`"


@pytest.mark.parametrize("value", ["", "rm -rf"])
def test_an_installed_wheel_has_the_bare_names(launched, monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    assert as_typed("`horde-bridge doctor`, update-runtime") == "`horde-bridge doctor`, update-runtime"


def test_everything_that_is_printed_names_them_so(launched, capsys):
    answer("`horde-bridge doctor`")
    complain("Run update-runtime.")
    Screen().say("run update-runtime again")
    record: Any = {"message": "`horde-bridge resume` ends it.", "exception": None}
    logs.redactor.patch(record)
    printed = capsys.readouterr()
    assert printed.out == "`./horde-bridge.sh doctor`\n"
    assert printed.err == "horde-bridge: Run ./update-runtime.sh.\nrun ./update-runtime.sh again\n"
    assert record["message"] == "`./horde-bridge.sh resume` ends it."


def test_every_command_is_known():
    assert set(COMMANDS) == {*program.COMMANDS, "--version"}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_each_launcher_says_that_it_was_called(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.search(rf"{VARIABLE}=[^\n]*{re.escape(name)}", text)
