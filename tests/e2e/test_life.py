"""The worker's life as a process: killed and started again, told to stop, started twice."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from worker.demo.horde.records import Outcome

pytestmark = pytest.mark.e2e


@pytest.fixture
def engine_python() -> Path:
    """The engine is the worker's child itself: tests look at whether it is gone."""
    return Path(sys.executable)


def children(owner):
    return psutil.Process(owner.process.pid).children(recursive=True)


def test_what_a_killed_worker_left_open_is_reported_by_its_next_start_before_new_work(owner):
    owner.play(seconds=600.0)
    requests = owner.ask(2)
    owner.start()
    # What the Horde has handed out may still be on its way.
    owner.until(lambda: sum(journal.read_text().count("popped") for journal in owner.folder.glob("**/*.jsonl")) == 2)
    engines = children(owner)
    owner.signal(signal.SIGKILL)
    owner.end()
    psutil.wait_procs(engines, timeout=60)
    assert not any(engine.is_running() for engine in engines)
    assert owner.outcomes() == {Outcome.OPEN: 2}

    owner.play(seconds=0.0)
    owner.start()
    owner.done(requests)
    owner.signal()
    assert owner.end() == 0, owner.output
    # The embedded Horde, like the real one, hands a faulted job out once more.
    assert owner.outcomes() == {Outcome.FAULTED: 2, Outcome.OK: 2}
    books = owner.horde.state.accounting()
    assert books.duplicates == books.late == books.lost == 0
    assert "2 images unanswered" in owner.output


def test_a_second_worker_of_the_same_name_does_not_start(owner):
    owner.start()
    owner.until(owner.horde.state.workers)
    second = owner.command("run", "--cpu")
    assert second.returncode == 1
    assert f"process {owner.process.pid}" in second.stderr
    third = owner.command("run", "--cpu", "-n", "e2e worker")
    assert "runs on this machine already" in third.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_nothing_of_the_worker_is_left_after_sigterm(owner):
    owner.start()
    owner.until(owner.horde.state.workers)
    engines = children(owner)
    assert engines
    owner.signal(signal.SIGTERM)
    assert owner.end() == 0, owner.output
    assert not any(engine.is_running() for engine in engines)


def test_told_to_stop_while_its_engines_start_it_ends_at_once(owner):
    owner.play(start_seconds=600.0)
    owner.start()
    owner.until(lambda: "Starting 1 engine" in owner.output and children(owner))
    owner.signal(signal.SIGINT)
    assert owner.end() == 0, owner.output


def test_jobs_under_way_are_finished_after_the_first_signal(owner):
    owner.play(seconds=2.0)
    owner.ask(6)
    owner.start()
    owner.until(lambda: owner.outcomes()[Outcome.OPEN] >= 2)
    owner.signal(signal.SIGTERM)
    assert owner.end() == 0, owner.output
    outcomes = owner.outcomes()
    assert set(outcomes) == {Outcome.OK}
    assert outcomes[Outcome.OK] >= 2


@pytest.mark.parametrize("signals", [2, 3])
def test_a_signal_more_gives_back_what_waits_and_one_more_everything(owner, signals):
    owner.play(seconds=600.0)
    owner.ask(6)
    owner.start()
    owner.until(lambda: owner.outcomes()[Outcome.OPEN] >= 2)
    engines = children(owner)
    for said in ("Stopping: no new jobs", "In haste", "Stopping at once")[:signals]:
        owner.signal(signal.SIGTERM)
        owner.until(lambda text=said: text in owner.output)
    assert owner.end() == 1, owner.output
    assert "went back to the Horde" in owner.output or "before the jobs under way were done" in owner.output
    books = owner.horde.state.accounting()
    assert set(books.outcomes.values()) == {Outcome.FAULTED}
    assert books.lost == 0
    assert not any(engine.is_running() for engine in engines)


def test_a_changed_file_of_settings_counts_without_a_restart(owner):
    owner.start()
    owner.until(owner.horde.state.workers)
    owner.configure(max_power=32, max_threads=2)
    owner.until(lambda: "Settings read again" in owner.output)
    assert "max_power 8 → 32: takes effect at once" in owner.output
    assert "max_threads 1 → 2: takes effect after a restart" in owner.output
    requests = owner.ask(width=1024, height=1024)
    owner.done(requests)
    owner.configure(max_power="lots")
    owner.until(lambda: "the old ones stay" in owner.output)
    assert "max_power: 'lots' is not allowed" in owner.output
    owner.signal(signal.SIGHUP)
    owner.until(lambda: owner.output.count("the old ones stay") == 2)
    owner.signal()
    assert owner.end() == 0, owner.output


def test_a_file_of_settings_that_lost_its_content_changes_nothing(owner):
    owner.start()
    owner.until(owner.horde.state.workers)
    written = yaml.safe_load(owner.config_file.read_text(encoding="utf-8"))
    kept = {key: value for key, value in written.items() if key.startswith("comfyui_")}
    owner.config_file.write_text(yaml.safe_dump(kept), encoding="utf-8")
    owner.until(lambda: "the old ones stay" in owner.output or "Settings read again" in owner.output)
    assert "bridgeData.yaml: no API key is set" in owner.output
    assert "Settings read again" not in owner.output
    owner.done(owner.ask())
    owner.signal()
    assert owner.end() == 0, owner.output


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_jobs_go_on_while_the_terminal_takes_nothing(owner):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"x" * 512):
            pass
    os.set_blocking(writing, True)
    owner.start(stderr=writing)
    os.close(writing)
    try:
        owner.done(owner.ask(3))
        assert owner.outcomes() == {Outcome.OK: 3}
        owner.signal()
        assert owner.end() == 0
    finally:
        os.close(reading)


def test_the_owner_takes_the_worker_out_of_service_and_back_from_the_command_line(owner):
    owner.configure()
    unknown = owner.command("maintenance", "on")
    assert unknown.returncode == 1
    assert "knows no worker" in unknown.stderr
    owner.start()
    owner.until(owner.horde.state.workers)

    done = owner.command("maintenance", "on", "--message", "back at noon")
    assert (done.returncode, done.stdout) == (0, "e2e worker is in maintenance mode.\n")
    owner.until(lambda: "back at noon" in owner.output)
    assert "in maintenance mode" in owner.command("maintenance", "show").stdout

    requests = owner.ask()
    assert owner.command("maintenance", "off").stdout == "e2e worker is in service.\n"
    owner.done(requests)
    assert "Asking for jobs again" in owner.output


def test_a_worker_in_maintenance_leaves_it_at_the_start_where_the_settings_say_so(owner):
    owner.start()
    owner.until(owner.horde.state.workers)
    assert owner.command("maintenance", "on").returncode == 0
    owner.signal()
    owner.end()
    owner.configure(remove_maintenance_on_init=True)
    requests = owner.ask()
    owner.start()
    owner.done(requests)
    assert "taken out of it" in owner.output
