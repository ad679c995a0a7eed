"""A log gets a block when there is something new; a terminal a view; both a summary at the end."""

import asyncio
from dataclasses import replace

import pytest

from tests.unit.console.views import job_view, snapshot
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.console import status_view
from worker.console.status_view import NOTHING_NEW_S, StatusView
from worker.status.snapshot import PauseView, Snapshot, Tally


class Board:
    """A status that a test changes."""

    def __init__(self) -> None:
        self.now = snapshot()
        self.idle = (0.0, "")

    def snapshot(self):
        return self.now

    def in_vain(self):
        return self.idle


@pytest.fixture
def board():
    return Board()


def test_a_block_that_says_nothing_new_is_shown_seldom(board, said):
    view = StatusView(LiveConfig(BridgeData()))

    def blocks_at(now, status):
        before = len(said)
        view._log(status, now, "SUCCESS")
        return len(said) - before

    older = replace(board.now, session=replace(board.now.session, uptime_s=9999.0, kudos_per_hour=1.0))
    more = replace(board.now, session=replace(board.now.session, total=Tally(jobs=13)))
    paused = replace(board.now, pauses=(PauseView("owner", "Paused.", until=1.0),))
    assert blocks_at(0.0, board.now) == 1
    assert blocks_at(30.0, older) == 0
    assert blocks_at(60.0, more) == 1
    assert blocks_at(90.0, paused) == 1
    assert blocks_at(120.0, replace(paused, pauses=(replace(paused.pauses[0], until=9.0),))) == 0
    assert blocks_at(90.0 + NOTHING_NEW_S, paused) == 1


async def test_the_live_view_vanishes_when_the_status_is_turned_off_while_the_worker_runs(monkeypatch, board):
    shown = []
    live = LiveConfig(BridgeData(stats_output_frequency=30))
    monkeypatch.setattr(status_view, "TICK_S", 0.0)

    def show(status: Snapshot | None) -> None:
        shown.append(status)
        if len(shown) == 1:
            live.change(BridgeData(stats_output_frequency=0))
        else:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await StatusView(live, at_bottom=True)._attend(board, show)
    assert shown == [board.now, None]


async def test_the_session_is_summed_up_when_the_worker_ends(board, said):
    view = asyncio.ensure_future(StatusView(LiveConfig(BridgeData()))(board))
    await asyncio.sleep(0)
    view.cancel()
    await asyncio.wait([view])
    assert len(said) == 1
    assert "12 jobs done" in said[0]


def test_a_long_time_in_vain_is_warned_of_once_until_a_job_comes(board, warnings):
    view = StatusView(LiveConfig(BridgeData()))
    for idle_s in (60.0, 1800.0, 1900.0, 0.0, 2000.0):
        board.idle = (idle_s, "3 want LoRAs.")
        view._warn_if_idle(board, 30, quiet=False)
    assert [text.split(". ")[1] for text in warnings] == ["3 want LoRAs.", "3 want LoRAs."]
    view._warn_if_idle(board, 0, quiet=False)
    view._warned = False
    view._warn_if_idle(board, 30, quiet=True)
    assert len(warnings) == 2


def test_the_view_is_drawn_seldom_while_nothing_moves_in_it(board):
    drawn = []
    showing = StatusView(LiveConfig(BridgeData()), at_bottom=True)
    for second in range(10):
        showing._show(drawn.append, board.now, float(second))
    assert len(drawn) == 2
    paused = replace(board.now, pauses=(PauseView("owner", "Paused."),))
    showing._show(drawn.append, paused, 10.0)
    showing._show(drawn.append, None, 11.0)
    assert drawn[2:] == [paused, None]
    working = replace(board.now, jobs=(job_view(),))
    for second in range(12, 22):
        showing._show(drawn.append, working, float(second))
    assert len(drawn) == 14
