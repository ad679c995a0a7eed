"""A worker killed in the middle of its jobs: its engines end, and its next start answers for what it left, once."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.stages import STAGES
from worker.demo.horde.faults import Fault, FaultKind, Route
from worker.demo.horde.records import Outcome

pytestmark = pytest.mark.e2e

FOR_EVER_S = 3600.0


@pytest.fixture
def engine_python() -> Path:
    """The engine is the worker's child itself: tests look at whether it is gone."""
    return Path(sys.executable)


def kill(owner) -> None:
    """kill -9, and everything of it is gone."""
    with killed(owner):
        owner.signal(signal.SIGKILL)


@contextmanager
def killed(owner) -> Iterator[None]:
    """In the block, and then everything of it is gone."""
    children = psutil.Process(owner.process.pid).children(recursive=True)
    yield
    assert owner.end() == -signal.SIGKILL
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() for child in children)
    # What it sent with its last breath the Horde has read by the time it answers this.
    httpx.get(owner.horde.url, timeout=60)


def journalled(owner) -> set[str]:
    """The ids that the journal says are open."""
    open_ids: set[str] = set()
    for journal in Path(owner.folder).rglob("journal.jsonl"):
        for event in map(json.loads, journal.read_text().splitlines()):
            open_ids |= set(event.get("popped", ()))
            open_ids -= set(event.get("answered", ()))
    return open_ids


def serve_the_rest(owner, requests: list[str]) -> None:
    owner.horde.faults.stop()
    owner.play()
    owner.start()
    owner.done(requests)
    owner.signal()
    assert owner.end() == 0, owner.output


def each_answered_once(owner, **expected: int) -> None:
    books = owner.horde.state.accounting()
    assert books.duplicates == books.late == books.lost == books.unknown == 0
    assert owner.outcomes() == {Outcome(name): count for name, count in expected.items()}


def test_of_a_batch_delivered_in_part_only_the_rest_is_reported(owner):
    owner.configure(max_batch=4)
    owner.start()
    # Only of a model that is known to be fast is a batch taken; a large job looks fast on a busy machine as well.
    for _ in range(3):
        owner.done(owner.ask(1, width=512, height=512, steps=100))
    # The other uploads of the batch stand still.
    owner.horde.faults.inject(Route.UPLOAD, Fault(FaultKind.HANG, seconds=FOR_EVER_S), times=2)
    requests = owner.ask(1, n=3)
    owner.until(lambda: owner.outcomes() == {Outcome.OK: 4, Outcome.OPEN: 2})
    journal = next(Path(owner.folder).rglob("journal.jsonl"))
    owner.until(lambda: journal.read_text().count("answered") == 4)

    kill(owner)
    serve_the_rest(owner, requests)

    each_answered_once(owner, ok=6, faulted=2)
    assert "2 images unanswered" in owner.output


def test_a_worker_killed_again_while_it_reports_what_it_left_reports_it_the_next_time(owner):
    owner.play(seconds=FOR_EVER_S)
    requests = owner.ask(2)
    owner.start()
    owner.until(lambda: len(journalled(owner)) == 2)
    kill(owner)

    owner.horde.faults.inject(Route.SUBMIT, Fault(FaultKind.RESET), times=1000)
    owner.start()
    owner.until(lambda: owner.horde.faults.struck.get("submit/reset", 0) >= 2)
    kill(owner)
    left_open = owner.outcomes()[Outcome.OPEN]
    serve_the_rest(owner, requests)

    assert left_open >= 2
    each_answered_once(owner, ok=2, faulted=left_open)


def test_a_worker_killed_while_it_drains_answers_for_its_last_jobs_at_its_next_start(owner):
    owner.play(seconds=FOR_EVER_S)
    requests = owner.ask(1)
    owner.start()
    # What the Horde has handed out may still be on its way.
    owner.until(lambda: journalled(owner))
    owner.signal(signal.SIGTERM)
    owner.until(lambda: "Stopping" in owner.output)

    kill(owner)
    serve_the_rest(owner, requests)

    each_answered_once(owner, ok=1, faulted=1)


def test_a_worker_killed_at_any_stage_of_a_job_answers_for_it_at_its_next_start(owner):
    owner.play(seconds=0.2)
    requests = owner.ask(1)
    for stage in STAGES:
        owner.start()
        # What the last one left was reported, and the Horde has offered it once more.
        owner.done(requests)
        owner.until(lambda: not journalled(owner))
        with killed(owner):
            owner.fatal_stage.write_text(stage)
            requests = owner.ask(1)
        owner.fatal_stage.unlink()

        outcomes = owner.horde.state.accounting().outcomes
        left = {job for job, outcome in outcomes.items() if outcome is Outcome.OPEN}
        assert len(left) == 1, stage
        assert journalled(owner) == left, stage
    serve_the_rest(owner, requests)

    each_answered_once(owner, ok=len(STAGES) + 1, faulted=len(STAGES))
