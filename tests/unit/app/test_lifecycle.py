"""How urgently the worker ends, and what the system tells it."""

import asyncio
import ctypes
import gc
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from worker.app import lifecycle
from worker.app.lifecycle import Ending, settle
from worker.jobs.job import JobEvent, Stage
from worker.process.signals import CTRL_CLOSE, CTRL_LOGOFF, CTRL_SHUTDOWN, console_close, signals

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def done():
    return []


@pytest.fixture
def ending(done):
    return Ending(cancel=lambda: done.append("cancel"), die=lambda: done.append("die"))


async def test_each_signal_is_one_step_further(ending, done):
    steps = []
    for _ in range(5):
        ending.further()
        steps.append((ending.stop.is_set(), ending.hasten.is_set(), tuple(done)))
    assert steps == [
        (True, False, ()),
        (True, True, ()),
        (True, True, ("cancel",)),
        (True, True, ("cancel", "die")),
        (True, True, ("cancel", "die", "die")),
    ]


async def test_a_closed_console_goes_to_the_third_step_at_once(ending, done):
    ending.at_once()
    assert ending.stop.is_set()
    assert ending.hasten.is_set()
    assert done == ["cancel"]
    ending.further()
    assert done == ["cancel", "die"]


def test_what_lasts_is_kept_from_the_collector_once_when_the_first_job_is_done():
    lifecycle._freeze.cache_clear()
    job: Any = None
    try:
        # Python 3.12 keeps a few objects of its own so, from its start.
        gc.freeze()
        before = gc.get_freeze_count()
        lasting = [[] for _ in range(1000)]
        for stage in set(Stage) - {Stage.DONE}:
            settle(JobEvent(job, stage))
        assert gc.get_freeze_count() <= before
        settle(JobEvent(job, Stage.DONE))
        kept = gc.get_freeze_count()
        assert kept >= before + len(lasting)
        later = [[] for _ in range(1000)]
        settle(JobEvent(job, Stage.DONE))
        assert gc.get_freeze_count() < kept + len(later)
    finally:
        gc.unfreeze()
        lifecycle._freeze.cache_clear()


def test_what_was_imported_is_kept_from_the_collector_before_the_event_loop_begins(monkeypatch):
    kept = []
    monkeypatch.setattr(lifecycle, "give_back_large_blocks", lambda: None)
    monkeypatch.setattr(lifecycle.asyncio, "run", lambda serving: (serving.close(), kept.append(gc.get_freeze_count())))
    lasting = [[] for _ in range(1000)]
    try:
        before = gc.get_freeze_count()
        setup: Any = SimpleNamespace(events=SimpleNamespace(subscribe=lambda _: None))
        lifecycle.run(setup)
        assert kept[0] >= before + len(lasting)
    finally:
        gc.unfreeze()


class Kernel32:
    """Windows' kernel32, as far as console events go."""

    def __init__(self) -> None:
        self.handlers = []

    def SetConsoleCtrlHandler(self, handler, add):  # noqa: N802 - Windows' name
        if add:
            self.handlers.append(handler)
        else:
            self.handlers = [each for each in self.handlers if ctypes.addressof(each) != ctypes.addressof(handler)]
        return 1


@pytest.mark.parametrize("event", [CTRL_CLOSE, CTRL_LOGOFF, CTRL_SHUTDOWN])
def test_windows_is_held_up_until_the_worker_has_ended(event):
    kernel, closing, answers = Kernel32(), threading.Event(), []
    with console_close(closing.set, kernel):
        [handler] = kernel.handlers
        system = threading.Thread(target=lambda: answers.append(handler(event)))
        system.start()
        assert closing.wait(60)
        assert answers == []
    system.join()
    assert answers == [1]
    assert kernel.handlers == []


def test_ctrl_c_is_left_to_the_interpreter():
    kernel, closing = Kernel32(), threading.Event()
    with console_close(closing.set, kernel):
        assert kernel.handlers[0](0) == 0
    assert not closing.is_set()


async def test_signals_reach_those_they_are_meant_for_and_nobody_afterwards(done):
    heard = asyncio.Event()

    def note(name):
        done.append(name)
        heard.set()

    with signals(stop=lambda: note("stop"), close=lambda: note("close"), reload=lambda: note("reload")):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            heard.clear()
            os.kill(os.getpid(), number)
            await heard.wait()
    assert done == ["stop", "stop", "reload"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


LISTEN = """
import asyncio
from worker.process.signals import signals

async def main():
    heard = asyncio.get_running_loop().create_future()
    with signals(stop=lambda: heard.set_result("stop"), close=print, reload=lambda: heard.set_result("reload")):
        print("listening", flush=True)
        print(await heard, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(("lost", "heard"), [(True, "stop\n"), (False, "reload\n")])
def test_a_hang_up_stops_a_worker_whose_terminal_is_gone_and_tells_others_to_reload(lost, heard):
    terminal, line = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", LISTEN], cwd=ROOT, stdout=subprocess.PIPE, stderr=line, text=True, start_new_session=True
    )
    os.close(line)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    if lost:
        os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == heard
    process.communicate()
    if not lost:
        os.close(terminal)
