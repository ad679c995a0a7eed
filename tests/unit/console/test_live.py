"""On a terminal the status stays at the bottom, and log lines go by above it."""

import io
import sys

from rich.console import Console

from worker.console import live
from worker.console.live import live_view


def test_log_lines_and_status_both_reach_the_terminal_and_standard_error_is_given_back(monkeypatch):
    terminal, before = io.StringIO(), sys.stderr
    with live_view(Console(file=terminal, force_terminal=True, width=80)) as view:
        view.show(["my worker: 5 min, 3 jobs done", "x" * 200])
        sys.stderr.write("a log line\n")
        view.show(["my worker: 6 min, 4 jobs done"])
    text = terminal.getvalue()
    assert "3 jobs done" in text
    assert "a log line" in text
    assert text.index("a log line") < text.index("4 jobs done")
    assert "x" * 81 not in text
    assert sys.stderr is before


def test_a_file_a_dumb_terminal_and_a_ci_have_no_live_view(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not live.wanted()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert live.wanted()
    monkeypatch.setenv("TERM", "dumb")
    assert not live.wanted()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("CI", "true")
    assert not live.wanted()
