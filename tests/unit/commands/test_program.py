"""What an owner types, and what comes of a slip."""

import errno
import os
import sys
from pathlib import Path

import pytest

from worker.commands import program


@pytest.fixture
def typed(monkeypatch, capsys):
    """`typed(*arguments)`: exit code and output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["horde-bridge", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    return run


@pytest.mark.parametrize("arguments", [("-h",), ("--help",), ("help",)])
def test_help_is_had_by_every_usual_word(typed, arguments):
    code, text = typed(*arguments)
    assert code == 0
    assert "Commands:" in text


@pytest.mark.parametrize("arguments", [("help", "models", "list"), ("models", "list", "-h")])
def test_each_command_has_help_of_its_own(typed, arguments):
    code, text = typed(*arguments)
    assert code == 0
    assert "The models to be loaded" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("modles",), "did you mean `horde-bridge models`?"),
        (("models", "lst"), "did you mean `horde-bridge models list`?"),
        (("stop",), "horde-bridge finish"),
        (("stop",), "Ctrl+C"),
        (("xyzzy",), "The commands of horde-bridge are: benchmark, config,"),
        (("-n", "x", "doctor"), "Write the command doctor first"),
        (("run", "--cpu", "--amd"), "only one of --amd, --cpu and --directml"),
        (("doctor", "--offlin"), "--offline"),
    ],
)
def test_a_slip_ends_with_2_and_says_what_may_be_meant(typed, arguments, said):
    code, text = typed(*arguments)
    assert code == 2
    assert said in text


def test_a_path_that_cannot_be_used_is_one_sentence(typed, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "/proc/x")

    monkeypatch.setattr(program, "app_of", lambda _: fail)
    code, text = typed("demo")
    assert code == 1
    assert text.startswith("horde-bridge: /proc/x: Permission denied. Check")
    assert len(text.splitlines()) == 1


def test_a_full_disk_wants_room_and_no_other_permissions(typed, monkeypatch):
    def fail(*_arguments, **_named):
        raise OSError(errno.ENOSPC, "No space left on device", "/disk/x")

    monkeypatch.setattr(program, "app_of", lambda _: fail)
    assert typed("demo")[1].strip() == (
        "horde-bridge: /disk/x: No space left on device. Make room on the disk, then try again."
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that is in use")
def test_a_command_in_a_folder_that_is_gone_says_so(typed, monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, text = typed("models", "list")
    assert code == 1
    assert text.startswith("horde-bridge: The folder that this was started in is gone. Change into one")


def test_the_help_that_launchers_show_before_the_set_up_is_the_commands(typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    usage = Path(program.__file__).parents[1].joinpath("usage.txt").read_text(encoding="utf-8")
    assert usage.startswith(typed("--help")[1].rstrip()), "write the output of `COLUMNS=80 horde-bridge --help` there"


@pytest.mark.parametrize("command", ["status", "pause", "resume", "finish", "maintenance off", "service show"])
def test_a_name_given_to_a_command_about_a_worker_is_not_said_to_be_served_under(typed, command):
    code, text = typed(*command.split(), "--help")
    assert code == 0
    assert "--worker-name" in text
    assert "Serve under" not in text
