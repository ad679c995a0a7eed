"""What is typed where a command asks whether it may."""

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
