"""On a terminal the status stays at the bottom, and log lines go by above it."""

import asyncio
import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tests.unit.console.views import snapshot
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.console import status_view
from worker.console.status_view import StatusView, live_view, live_view_supported


def test_log_lines_and_status_both_reach_the_terminal_and_standard_error_is_given_back(monkeypatch):
    terminal, before = io.StringIO(), sys.stderr
    with live_view(Console(file=terminal, force_terminal=True, width=80)) as view:
        view.show(["my worker: 5 min, 3 jobs done", "x" * 200])
        sys.stderr.write("a log line\n")
        view.show(["my worker: 6 min, 4 jobs done", "Account a\x1b]0;owned\x07\u202eb"])
    text = terminal.getvalue()
    assert "3 jobs done" in text
    assert "\x1b]0;owned" not in text
    assert "\u202e" not in text
    assert "a log line" in text
    assert text.index("a log line") < text.index("4 jobs done")
    assert "x" * 81 not in text
    assert sys.stderr is before


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


async def test_the_live_view_vanishes_when_the_status_is_turned_off_while_the_worker_runs(monkeypatch):
    shown: list[list[str]] = []
    live = LiveConfig(BridgeData(stats_output_frequency=30))
    status: Any = SimpleNamespace(in_vain=lambda: (0.0, ""), snapshot=snapshot)
    monkeypatch.setattr(status_view, "TICK_S", 0.0)

    def show(lines):
        shown.append(list(lines))
        if len(shown) == 1:
            live.change(BridgeData(stats_output_frequency=0))
        else:
            raise asyncio.CancelledError

    view: Any = SimpleNamespace(show=show)
    with pytest.raises(asyncio.CancelledError):
        await StatusView(live, at_bottom=True)._attend(status, view)
    assert shown[0][0].startswith("my worker: 60 min")
    assert shown[1] == []
