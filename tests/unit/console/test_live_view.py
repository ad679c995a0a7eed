"""On a terminal the status stays at the bottom, and log lines go by above it, also when the window changes."""

import io
import re
import sys

import pytest
from rich.console import Console

from tests.unit.console.views import snapshot
from worker.console.live_view import live_view, live_view_supported


def terminal(width=80, height=24):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    return console, console.file


def test_log_lines_and_status_both_reach_the_terminal_and_standard_error_is_given_back():
    (console, file), before = terminal(), sys.stderr
    with live_view(console) as view:
        view(snapshot(name="early"))
        sys.stderr.write("a log line\n")
        view(snapshot(name="late"))
    text = file.getvalue()
    assert text.index("early") < text.index("a log line") < text.rindex("late")
    assert sys.stderr is before


def test_a_window_made_narrower_has_every_line_erased_that_its_terminal_made_of_the_old_ones():
    console, file = terminal(width=80)
    with live_view(console) as view:
        view(snapshot())
        lines = file.getvalue().count("\n")
        begin = len(file.getvalue())
        console.size = (40, 24)
        # Not the view itself: a log line may be the first to come.
        sys.stderr.write("a log line\n")
        erased = file.getvalue()[begin:].split("a log line")[0].count("\x1b[2K")
        assert erased > lines + 1
        begin = len(file.getvalue())
        console.size = (100, 24)
        view(snapshot())
        assert file.getvalue()[begin:].count("\x1b[2K") < erased


def test_no_more_is_erased_than_the_window_has_lines():
    console, file = terminal(width=200, height=10)
    with live_view(console) as view:
        view(snapshot())
        begin = len(file.getvalue())
        console.size = (5, 10)
        view(snapshot())
        assert len(re.findall(r"\x1b\[1A", file.getvalue()[begin:].split("---")[0])) < 10


def test_the_view_is_cleared_while_the_owner_wants_none():
    console, file = terminal()
    with live_view(console) as view:
        view(snapshot(name="here"))
        begin = len(file.getvalue())
        view(None)
        assert "here" not in file.getvalue()[begin:]


def test_a_file_a_dumb_terminal_and_a_ci_have_no_live_view(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not live_view_supported()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert live_view_supported()
    monkeypatch.setenv("TERM", "dumb")
    assert not live_view_supported()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("CI", "true")
    assert not live_view_supported()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_nothing_of_the_view_is_left_at_its_end(width):
    console, file = terminal(width=width)
    with live_view(console) as view:
        view(snapshot())
        begin = len(file.getvalue())
    assert "\x1b[2K" in file.getvalue()[begin:]
