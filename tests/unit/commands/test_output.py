"""What commands print is harmless on a terminal, whole in a table, and never fails on a character."""

import io
import os
import subprocess
import sys

import pytest

from worker.commands import output
from worker.commands.output import accept_any_character, answer, answer_table, complain, mend_terminal_size

HOSTILE = "a\x1b]0;owned\x07b\u202ec"


def test_foreign_text_controls_no_terminal(capsys):
    answer(HOSTILE)
    complain(HOSTILE)
    answer_table(["model"], [[HOSTILE + "\n12:00 ERROR forged"]])
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "\nforged" not in printed.out


def test_no_cell_of_a_table_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer_table(["name", "path"], [["x" * 60, "/long/" + "y" * 100]])
    printed = capsys.readouterr().out
    assert printed.count("y") == 100
    assert "…" not in printed


def test_a_pipe_with_few_characters_gets_replacements(monkeypatch):
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", pipe)
    accept_any_character()
    output.answer("model 画 → here")
    pipe.flush()
    assert b"model ? ? here" in pipe.buffer.getvalue()


@pytest.mark.parametrize("given", ["0", "1", "-80", "abc", "\u00b2", "9" * 999])
def test_a_size_of_the_terminal_that_shows_nothing_is_forgotten(monkeypatch, given):
    monkeypatch.setenv("COLUMNS", given)
    mend_terminal_size()
    assert "COLUMNS" not in os.environ


@pytest.mark.parametrize("given", ["80", "20", ""])
def test_a_size_of_the_terminal_that_can_be_used_stays(monkeypatch, given):
    monkeypatch.setenv("COLUMNS", given)
    mend_terminal_size()
    assert os.environ["COLUMNS"] == given


@pytest.mark.skipif(os.name == "nt", reason="there a program can't be started so")
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("command", ["--version", "nonsense"])
def test_closed_standard_streams_are_no_failure_and_no_file_takes_their_place(closed, command):
    """Some starters of programs close them: Python has None for them, and the next file opened gets their number."""
    look = "import os, sys; from worker import cli; sys.argv = ['horde-bridge', sys.argv[1]]\n"
    look += "try: cli.main()\nexcept SystemExit as end: code = end.code\n"
    look += "os._exit(code + 10 * (os.open(os.devnull, 0) <= 2))"
    done = subprocess.run(
        [sys.executable, "-c", look, command], stdin=subprocess.DEVNULL, capture_output=True, check=False,
        preexec_fn=lambda: [os.close(each) for each in closed],
    )  # fmt: skip
    assert done.returncode == (0 if command == "--version" else 2), done
