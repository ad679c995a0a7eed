"""What is typed where a command asks whether it may."""

import io
import sys
from contextlib import contextmanager

import pytest

from worker.setup import terminal


@pytest.fixture
def typed(monkeypatch):
    """`typed(*lines)`: what a question is answered by."""

    def answer(*lines):
        left = iter(lines)
        monkeypatch.setattr(terminal, "ask_line", lambda _: next(left))
        return terminal.agreed("Write this to bridgeData.yaml?", default=True)

    return answer


@pytest.mark.parametrize("line", ["", " ", "y", "Yes", "ja", "1"])
def test_a_yes_or_enter_agrees(typed, line):
    assert typed(line)


@pytest.mark.parametrize("line", ["stop", "1e9", "sdxl", "okay, but first", "yesterday", "q"])
def test_what_is_neither_yes_nor_no_is_asked_again_and_never_taken_for_a_yes(typed, line, capsys):
    assert not typed(line, "n")
    assert "Answer y or n." in capsys.readouterr().err


def test_somebody_who_never_answers_has_not_agreed(typed):
    assert not typed(*["stop"] * 50)


@pytest.mark.skipif(sys.platform == "win32", reason="there getpass asks")
def test_nothing_is_shown_any_more_when_the_question_for_a_secret_is_there(monkeypatch, capsys):
    """A key that is pasted the moment it is asked for was shown before the echo was off."""
    shown_before = []

    @contextmanager
    def hidden():
        shown_before.append(capsys.readouterr().err)
        yield

    monkeypatch.setattr(terminal, "_hidden", hidden)
    monkeypatch.setattr(terminal, "_more_comes", lambda: False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a key\n"))
    assert terminal.ask_secret("Your API key: ") == "a key"
    assert shown_before == [""]
    assert capsys.readouterr().err == "Your API key: \n"
