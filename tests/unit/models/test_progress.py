"""What an owner reads of downloads."""

from pathlib import Path

import pytest

from worker.models.download.downloader import Download, DownloadProgress, DownloadState
from worker.models.progress import DownloadReport, ModelsState

MIB = 1024**2


def progress(name="a", state=DownloadState.RUNNING, done=0, total=1000 * MIB):
    return DownloadProgress(Download("https://x/y", Path(name)), state, done * MIB, total)


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def report(clock):
    return DownloadReport(now_s=lambda: clock[0])


def test_speed_and_time_left_come_from_what_arrives_now(report, clock):
    report.plan(600 * MIB)
    report.note(progress(done=400))  # of an earlier run
    clock[0] += 10
    report.note(progress(done=500))
    assert report.bytes_per_s == pytest.approx(10 * MIB)
    assert report.left_s == pytest.approx(50)


def test_several_files_add_up_and_what_ends_is_gone(report, clock):
    report.plan(2000 * MIB)
    for name in "ab":
        report.note(progress(name))
    clock[0] += 10
    for name in "ab":
        report.note(progress(name, done=50))
    assert report.bytes_per_s == pytest.approx(10 * MIB)
    report.note(progress("a", DownloadState.DONE, done=1000))
    assert [each.download.target.name for each in report.downloads] == ["b"]
    for state in (DownloadState.FAILED, DownloadState.STOPPED):
        report.note(progress("b"))
        report.note(progress("b", state))
        assert report.downloads == ()
    assert report.bytes_per_s == 0
    assert report.left_s is None


def test_a_file_that_begins_anew_takes_nothing_back(report, clock):
    report.note(progress(done=500))
    clock[0] += 10
    report.note(progress(done=0))
    assert report.bytes_per_s == 0


@pytest.mark.parametrize(("left_s", "text"), [(30, "1 min"), (600, "10 min"), (7260, "2 h 1 min")])
def test_the_state_is_one_line(left_s, text):
    state = ModelsState(("a",), ("b",), {"c": "gone"}, (progress("b.safetensors", done=250),), 5 * MIB, left_s)
    assert str(state) == f"1 of 3 models are here; b.safetensors 25 % of 1.0 GiB; 5.0 MiB/s, {text} left"


def test_a_file_of_unknown_size_shows_what_has_come():
    assert "b 7 MiB" in str(ModelsState(downloads=(progress("b", done=7, total=None),)))
