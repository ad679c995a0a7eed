"""What is popped stands in the journal until it is answered, whatever kills the worker in between."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from worker.errors import HordeRefused, HordeUnreachable, JobGone
from worker.horde.messages import PopResponse, SubmitResponse
from worker.jobs import journal as journals
from worker.jobs.job import Job, JobEvents, Stage
from worker.jobs.journal import Journal, journalled, report_left
from worker.scheduling.fault_limiter import HOUR_S

NOW = 1_700_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "journal.jsonl"


@pytest.fixture
def start(path, clock):
    """Opens the journal as the next start does; nobody closes it in order, as in a crash."""
    opened = []

    def _start():
        opened.append(Journal(path, clock=clock))
        return opened[-1]

    yield _start
    for journal in opened:
        journal._drop_file()


@pytest.fixture
def worker(start):
    return Worker(start())


def job(*ids, ttl=150.0):
    return Job(PopResponse(ids=list(ids), ttl=ttl, payload={}))


async def synced(journal):
    while journal._syncing is not None:
        await asyncio.wait([journal._syncing])


class Worker:
    """Jobs that go through their stages, and the journal that listens."""

    def __init__(self, journal) -> None:
        self.journal = journal
        self.events = JobEvents()
        self.events.subscribe(self.journal.note)
        self.events.answers.subscribe(self.journal.note_answer)

    def pop(self, *ids, **more):
        popped = job(*ids, **more)
        self.events.enter(popped, Stage.POPPED)
        return popped

    def answer(self, popped, *ids):
        for id_ in ids or popped.pop.job_ids:
            self.events.answer(popped, id_)
        self.events.enter(popped, Stage.DONE if not popped.owed else Stage.FAULTED)

    def fault(self, popped):
        for id_ in popped.pop.job_ids:
            self.events.answer(popped, id_)
            popped.faulted += 1
        self.events.enter(popped, Stage.FAULTED)


async def test_a_killed_worker_leaves_what_it_had_popped_and_not_answered(start, worker):
    worker.answer(worker.pop("a"))
    worker.pop("b", "c", ttl=200)
    assert start().open_ids == {"b": NOW + 200, "c": NOW + 200}


async def test_of_a_batch_only_what_is_still_owed_stays_open(start, worker):
    worker.answer(worker.pop("a", "b", "c"), "a", "c")
    assert set(start().open_ids) == {"b"}


async def test_an_image_that_was_answered_is_struck_while_the_rest_of_its_batch_is_on_its_way(start, worker):
    batch = worker.pop("a", "b")
    worker.events.answer(batch, "a")
    assert set(start().open_ids) == {"b"}


async def test_what_expired_meanwhile_is_forgotten(path, clock, start, worker):
    worker.pop("a", ttl=100)
    worker.pop("b", ttl=300)
    clock.now += 200
    assert set(start().open_ids) == {"b"}
    clock.now += 200
    assert start().open_ids == {}
    clock.now += HOUR_S
    start()
    assert path.read_text() == ""


async def test_the_faults_of_the_last_hour_are_known_to_the_next_start_and_so_is_what_became_late(clock, start, worker):
    worker.fault(worker.pop("a", "b", ttl=200))
    clock.now += 1000
    worker.pop("late", ttl=100)
    clock.now += 500
    worker.pop("open", ttl=100)
    clock.now += 50
    assert start().faults_ago_s() == start().faults_ago_s() == [1550, 1550, 450, 0]
    clock.now += HOUR_S - 1000
    assert start().faults_ago_s() == [HOUR_S - 1000 + 450, HOUR_S - 1000 - 50]


async def test_a_fault_reported_for_an_earlier_run_counts_and_one_that_was_answered_before_does_not(
    clock, start, worker
):
    worker.pop("a", "b", "c")
    await report_left(start(), Horde(b=JobGone("answered before")), clock=clock)
    assert start().faults_ago_s() == [0, 0]


async def test_a_torn_last_line_costs_only_itself(path, start, worker):
    worker.pop("a")
    await worker.journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    again = Worker(start())
    assert set(again.journal.open_ids) == {"a"}
    again.pop("b")
    assert set(start().open_ids) == {"a", "b"}


@pytest.mark.parametrize("ahead_s", [61.0, HOUR_S, 86_400.0 * 365, 1e300])
async def test_faults_dated_in_the_future_hold_no_worker_back(path, ahead_s, start):
    path.parent.mkdir()
    path.write_text(json.dumps({"faulted": [NOW + ahead_s] * 20 + [NOW - 10]}) + "\n")
    assert start().faults_ago_s() == [10.0]


async def test_an_id_that_claims_to_be_open_for_years_is_so_for_a_day_at_most(path, clock, start):
    path.parent.mkdir()
    path.write_text(json.dumps({"popped": ["a"], "until": NOW + 1e9}) + "\n")
    assert start().open_ids == {"a": NOW + 86_400.0}
    clock.now += 86_401.0
    assert start().open_ids == {}


async def test_a_file_of_empty_lines_is_read_in_a_moment(path, start):
    path.parent.mkdir()
    good = json.dumps({"popped": ["a"], "until": NOW + 10})
    path.write_text("\n" * 4_000_000 + good + "\n")
    assert set(start().open_ids) == {"a"}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        '{"faulted": 3}',
        '{"faulted": [[]]}',
        "3",
        '{"popped": 3, "until": 1}',
        '{"popped": ["x"]}',
        '{"answered": 5}',
        "\x00\x00",
        "{" * 999,
        "[" * 100_000,
        '{"popped": ["x"], "until": NaN}',
        '{"popped": ["x"], "until": 1e999}',
        '{"popped": null, "until": 1}',
        '{"faulted": [1e400, "soon"]}',
    ],
)
async def test_lines_without_sense_are_passed_over(path, line, start):
    path.parent.mkdir()
    good = json.dumps({"popped": ["a"], "until": NOW + 10})
    path.write_text(f"{line}\n{good}\n{line}\n")
    assert set(start().open_ids) == {"a"}


async def test_the_file_does_not_grow_with_the_jobs_and_keeps_what_is_open(path, monkeypatch, start, worker):
    monkeypatch.setattr(journals, "COMPACT_AFTER_LINES", 20)
    worker.pop("open")
    sizes = set()
    for number in range(200):
        worker.answer(worker.pop(f"id-{number}"))
        await synced(worker.journal)
        sizes.add(len(path.read_text().splitlines()))
    assert max(sizes) <= 20
    assert set(start().open_ids) == {"open"}


async def test_all_is_on_the_disk_when_it_is_closed(monkeypatch, worker):
    synced = []
    monkeypatch.setattr(journals.os, "fsync", synced.append)
    for number in range(5):
        worker.pop(f"id-{number}")
    await worker.journal.close()
    # The first pop and, once for all that came meanwhile, the others.
    assert len(synced) == 2


def full(*_, **__):
    raise OSError(28, "No space left on device")


async def test_a_disk_that_takes_nothing_more_does_not_stop_the_jobs(monkeypatch, worker):
    monkeypatch.setattr(worker.journal._file, "write", full, raising=False)
    worker.answer(worker.pop("a"))
    assert worker.journal.open_ids == {}


@pytest.mark.parametrize("step", ["write", "open", "replace"])
async def test_once_the_disk_takes_lines_again_all_that_is_open_stands_in_the_file(monkeypatch, start, worker, step):
    monkeypatch.setattr(journals, "COMPACT_AFTER_LINES", 4)
    worker.pop("a")
    with monkeypatch.context() as failing:
        if step == "write":
            failing.setattr(worker.journal._file, "write", full, raising=False)
        else:
            failing.setattr(Path, step, full)
        for number in range(9):
            worker.answer(worker.pop(f"meanwhile-{number}"))
            await synced(worker.journal)
        worker.pop("b")
    worker.answer(worker.pop("c"))
    await synced(worker.journal)
    worker.pop("d")
    assert set(start().open_ids) == {"a", "b", "d"}


async def test_a_disk_that_fails_is_told_once_for_each_time(monkeypatch, worker, said):
    for _ in range(2):
        await synced(worker.journal)
        monkeypatch.setattr(worker.journal._file, "write", full, raising=False)
        with monkeypatch.context() as failing:
            failing.setattr(Path, "open", full)
            for number in range(3):
                worker.answer(worker.pop(f"id-{number}"))
        worker.answer(worker.pop("fine"))
    assert len([line for line in said if "can't be written" in line]) == 2


async def test_a_disk_that_is_full_at_the_end_does_not_end_in_an_error(monkeypatch, worker):
    close = worker.journal._file.close

    def close_in_vain():
        close()
        full()

    monkeypatch.setattr(worker.journal._file, "close", close_in_vain, raising=False)
    await worker.journal.close()


async def test_a_file_that_a_sync_still_holds_is_not_replaced_for_windows_would_not(monkeypatch, path, worker):
    monkeypatch.setattr(journals, "COMPACT_AFTER_LINES", 4)
    released = threading.Event()
    monkeypatch.setattr(journals.os, "fsync", lambda _: released.wait())
    for number in range(9):
        worker.answer(worker.pop(f"id-{number}"))
    assert len(path.read_text().splitlines()) == 18

    released.set()
    await synced(worker.journal)
    assert path.read_text() == ""


async def test_faults_without_number_do_not_fill_the_disk(path, monkeypatch, worker):
    monkeypatch.setattr(journals, "COMPACT_AFTER_LINES", 20)
    monkeypatch.setattr(journals, "MOST_FAULTS", 30)
    for number in range(200):
        worker.fault(worker.pop(f"id-{number}"))
        await synced(worker.journal)
    assert path.read_text().count(f"{NOW}") <= 30 + 2 * 20


class Horde:
    """Takes reports, or not."""

    def __init__(self, **refusals) -> None:
        self.refusals = refusals
        self.reported = []
        self.deadlines = []

    async def submit(self, request, *, deadline):
        self.reported.append((request.id, request.state))
        self.deadlines.append(deadline)
        if error := self.refusals.get(request.id):
            raise error
        return SubmitResponse()


async def test_what_was_left_open_is_reported_as_faulted_and_struck(clock, start, worker):
    worker.pop("a", "b")
    journal, horde = start(), Horde()
    await report_left(journal, horde, clock=clock)
    assert sorted(horde.reported) == [("a", "faulted"), ("b", "faulted")]
    assert start().open_ids == {}


async def test_a_report_is_tried_no_longer_than_the_job_has_time(clock, start, worker):
    worker.pop("a", ttl=100)
    clock.now += 40
    horde = Horde()
    before = asyncio.get_running_loop().time()
    await report_left(start(), horde, clock=clock)
    assert 60 <= horde.deadlines[0] - before < 100


@pytest.mark.parametrize("error", [JobGone("gone"), HordeRefused("another account's")])
async def test_what_the_horde_wants_no_report_of_is_struck_too(clock, error, start, worker):
    worker.pop("a")
    await report_left(start(), Horde(a=error), clock=clock)
    assert start().open_ids == {}


async def test_what_could_not_be_reported_is_left_for_the_next_start(clock, start, worker):
    worker.pop("a", "b")
    await report_left(start(), Horde(a=HordeUnreachable("no network")), clock=clock)
    assert set(start().open_ids) == {"a"}


async def test_without_a_journal_nothing_is_kept():
    events = JobEvents()
    async with journalled(None, events, Horde()):
        events.enter(job("a"), Stage.POPPED)
