"""The history outlives a run; a file that is broken, full, locked or read-only costs the history and nothing else."""

import asyncio
import sqlite3
from functools import partial

import pytest

from tests.unit.console.views import job_record
from tests.unit.status.rig import Rig
from worker.status import history as history_module
from worker.status import history_keeper as keeper_module
from worker.status.history import FILE_NAME, History, KeptPause
from worker.status.history_keeper import HistoryKeeper
from worker.status.hourly_counts import HOUR_S, Hours
from worker.status.job_book import JobBook
from worker.status.snapshot import HourOfWork, Outcome, StageTimes, Tally

NOW = 1_800_000_000.0
HOUR = HourOfWork(NOW - NOW % HOUR_S, Tally(jobs=1, kudos=5.0), {"a": Tally(jobs=1)}, {"plain": Tally(jobs=1)})


def record(number=1, **more):
    return job_record(id=f"job {number}", ended_at=NOW - 10.0 * number, **more)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "w" / FILE_NAME


@pytest.fixture
def history(file, monkeypatch):
    monkeypatch.setattr(history_module, "MOST_JOBS", 5)
    monkeypatch.setattr(history_module, "MOST_HOURS", 3)
    return History(file)


def test_what_was_saved_is_there_at_the_next_start(history, file):
    saved = record(
        outcome=Outcome.FAULTED, blame="engine", sentence="x", features=("lora",), stages=StageTimes(render=2)
    )
    assert history.save([saved, record(2)], [HOUR], KeptPause(NOW + 60), NOW)
    kept = History(file).load(NOW)
    assert kept.jobs == [saved, record(2)]
    assert kept.hours == [HOUR]
    assert kept.pause == KeptPause(NOW + 60)
    assert history.save([], [], KeptPause(None), NOW)
    assert history.load(NOW).pause == KeptPause(None)
    assert history.save([], [], None, NOW)
    assert history.load(NOW).pause is None


def test_a_first_start_has_no_file_and_makes_none(history, file, warnings):
    assert history.load(NOW).jobs == []
    assert not file.exists()
    assert warnings == []


def test_no_more_is_kept_than_was_asked_for(history):
    hours = [HourOfWork(HOUR_S * number) for number in range(9)]
    assert history.save([record(number) for number in range(1, 9)], hours, None, NOW)
    assert [job.id for job in history.load(NOW).jobs] == [f"job {number}" for number in range(1, 6)]
    assert [hour.begins_at / HOUR_S for hour in history.load(NOW).hours] == [8, 7, 6]
    assert history.load(NOW + 86_400.0).jobs == []


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 99, b"SQLite format 3\x00" + b"\x00" * 5000, b"\xff" * 4096]
)
def test_a_file_that_is_no_history_is_put_aside_and_a_new_one_begun(history, file, content, warnings):
    file.parent.mkdir()
    file.write_bytes(content)
    assert history.load(NOW).jobs == []
    assert file.with_name(f"{FILE_NAME}.broken").read_bytes() == content
    assert "put aside" in warnings[0]
    assert history.save([record()], [], None, NOW)
    assert history.load(NOW).jobs == [record()]


def test_a_file_damaged_in_the_middle_is_put_aside(history, file, warnings):
    history.save([record(number, sentence="x" * 400) for number in range(1, 5)], [HOUR], None, NOW)
    data = bytearray(file.read_bytes())
    data[4096:8192] = b"\xa5" * 4096
    file.write_bytes(data)
    assert history.load(NOW).jobs == []
    assert len(warnings) == 1
    assert history.save([record()], [], None, NOW)


def test_a_file_that_breaks_while_the_worker_runs_is_put_aside(history, file, warnings):
    history.save([record()], [], None, NOW)
    file.write_bytes(b"garbage" * 2000)
    assert not history.save([record(2)], [], None, NOW)
    assert history.save([record(2)], [], None, NOW)
    assert history.load(NOW).jobs == [record(2)]


@pytest.mark.parametrize("change", ["PRAGMA user_version = 99", "DROP TABLE jobs"])
def test_a_file_of_another_form_is_put_aside(history, file, change, warnings):
    history.save([record()], [], None, NOW)
    with sqlite3.connect(file) as base:
        base.execute(change)
    base.close()
    assert history.load(NOW).jobs == []
    assert history.save([record()], [], None, NOW)
    assert len(warnings) == 1


def test_rows_that_make_no_sense_are_passed_over(history, file):
    history.save([record()], [HOUR], None, NOW)
    with sqlite3.connect(file) as base:
        for number, content in enumerate(("{", "[]", '{"id": 1}', "x" * 300_000)):
            base.execute("INSERT INTO jobs VALUES (?, ?, ?)", (str(number), NOW, content))
        base.execute("INSERT INTO pause VALUES (1, 'x')")
    base.close()
    kept = history.load(NOW)
    assert (kept.jobs, kept.hours, kept.pause) == ([record()], [HOUR], None)


def test_a_full_disk_is_told_once_and_again_after_it_took_something(history, file, monkeypatch, warnings):
    history.save([record()], [], None, NOW)
    many = [record(1, sentence="x" * 100_000)]
    with monkeypatch.context() as full:
        full.setattr(history_module, "MOST_PAGES", 8)
        for _ in range(3):
            assert not history.save(many, [], None, NOW)
    assert len(warnings) == 1
    assert "full" in warnings[0]
    assert history.save(many, [], None, NOW)
    assert history.load(NOW).jobs == many


def test_a_file_that_another_program_holds_is_tried_again(history, file, monkeypatch, warnings):
    history.save([record()], [], None, NOW)
    monkeypatch.setattr(history_module, "LOCK_LIMIT_S", 0.0)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert not history.save([record(2)], [], None, NOW)
    assert history.load(NOW).jobs == []
    assert file.exists()
    assert len(warnings) == 1
    other.execute("ROLLBACK")
    other.close()
    assert history.save([record(2)], [], None, NOW)
    assert history.load(NOW).jobs == [record(), record(2)]


def test_a_read_only_file_is_read_and_told_of_once(history, file, monkeypatch, warnings):
    history.save([record()], [], None, NOW)
    connect = sqlite3.connect

    def read_only(path, **options):
        return connect(f"file:{path}?mode=ro", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    assert history.load(NOW).jobs == [record()]
    assert not history.save([record(2)], [], None, NOW)
    assert not history.save([record(2)], [], None, NOW)
    assert len(warnings) == 1


def test_a_place_where_no_file_can_be_is_told_once(tmp_path, warnings):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / FILE_NAME).mkdir()
    (tmp_path / "taken").write_text("")
    for file in (tmp_path / "w" / FILE_NAME, tmp_path / "taken" / FILE_NAME):
        history = History(file)
        history.load(NOW)
        assert not history.save([record()], [], None, NOW)
    assert len(warnings) == 2


def test_an_hour_of_two_runs_is_summed():
    hours = Hours()
    hours.add(NOW, "a", (), Tally(jobs=2, kudos=1.0))
    hours.merge(HOUR)
    (hour,) = hours.last(1, NOW)
    assert (hour.total.jobs, hour.total.kudos, hour.models["a"].jobs, hour.features["plain"].jobs) == (3, 6.0, 3, 3)


async def test_a_worker_goes_on_where_the_last_one_was(file, monkeypatch):
    monkeypatch.setattr(keeper_module, "SAVE_EVERY_S", 0.0)
    first = Rig()
    book = first.board.book
    keeper = HistoryKeeper(file, book, first.board.steering.pause_state, wall=first.clock.wall)
    running = asyncio.ensure_future(keeper.run())
    first.ends(first.job("a"))
    first.board.steering.pause()
    keeper.steered()
    # What is not written yet is written at the end.
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    later = Rig()
    later.clock.now = first.clock.now
    following = HistoryKeeper(file, later.board.book, later.board.steering.pause_state, wall=later.clock.wall)
    await following.restore()
    assert [job.id for job in later.board.history()[0]] == ["a"]
    assert later.board.hours(1)[0].total.kudos == 10.0
    assert later.board.steering.pause_state.is_on


async def test_what_the_disk_did_not_take_is_written_later(file, monkeypatch):
    monkeypatch.setattr(keeper_module, "SAVE_EVERY_S", 0.0)
    rig = Rig()
    keeper = HistoryKeeper(file, rig.board.book, rig.board.steering.pause_state, wall=rig.clock.wall)
    with monkeypatch.context() as full:
        full.setattr(history_module, "MOST_PAGES", 1)
        rig.ends(rig.job("a"))
        await keeper._save()
    rig.ends(rig.job("b"))
    await keeper._save()
    assert [job.id for job in keeper._history.load(rig.clock.wall()).jobs] == ["b", "a"]


async def test_a_store_that_never_answers_holds_up_no_start(file, monkeypatch):
    monkeypatch.setattr(keeper_module, "LOAD_LIMIT_S", 0.01)
    answered = asyncio.Event()

    async def never(*_):
        await answered.wait()

    monkeypatch.setattr(asyncio, "to_thread", never)
    keeper = HistoryKeeper(file, JobBook(), Rig().board.steering.pause_state)
    await asyncio.wait_for(keeper.restore(), 60)


def test_many_jobs_are_kept_in_bounds():
    book = JobBook(clock=partial(float, 0), wall=partial(float, NOW))
    book.restore([record(number) for number in range(1, 20_000)])
    assert len(list(book.ended())) == 8640
