"""Children of a killed run are found by number and birth, and ended."""

import json
import subprocess
import sys

import psutil
import pytest

from worker.process.orphans import FILE_NAME, end_orphans, note_child

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
PARENT = f"import subprocess, sys; child = subprocess.Popen({SLEEP!r}); child.wait()"


@pytest.fixture
def start():
    """Starts processes that the test's end does not outlive."""
    started = []

    def _start(code=None):
        command = SLEEP if code is None else [sys.executable, "-c", code]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    yield _start
    for process in started:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            child.kill()
        process.kill()
        process.wait()
        process.stdout.close()


def set_clock(monkeypatch, days):
    """Linux makes the date of a start from the clock as it is now."""
    date = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: date(process) + days * 86400)


def engine_folder(root, number=1):
    folder = root / "engines" / str(number)
    folder.mkdir(parents=True)
    return folder


def test_what_is_noted_below_the_folder_is_ended_with_its_children(tmp_path, start):
    process = start(PARENT)
    [child] = psutil.Process(process.pid).children()
    note_child(engine_folder(tmp_path), process.pid)
    assert end_orphans(tmp_path) == 2
    assert not psutil.pid_exists(process.pid)
    assert not child.is_running()


def test_what_was_ended_is_forgotten(tmp_path, start):
    note_child(engine_folder(tmp_path), start().pid)
    assert end_orphans(tmp_path) == 1
    assert end_orphans(tmp_path) == 0


def test_a_process_that_only_got_the_number_of_a_child_is_left_alone(tmp_path, start):
    process, folder = start(), engine_folder(tmp_path)
    note_child(folder, process.pid)
    note = folder / FILE_NAME
    content = json.loads(note.read_text())
    note.write_text(json.dumps({"pid": content["pid"], "born": content["born"] - 60}))
    assert end_orphans(tmp_path) == 0
    assert process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the date of a start")
@pytest.mark.parametrize("days", [-400, 400])
def test_a_child_is_known_again_after_the_clock_was_set(tmp_path, start, monkeypatch, days):
    process, folder = start(), engine_folder(tmp_path)
    note_child(folder, process.pid)
    set_clock(monkeypatch, days)
    assert end_orphans(tmp_path) == 1
    process.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell no time since boot")
def test_a_process_of_another_boot_is_left_alone_even_if_it_began_at_the_same_date(tmp_path, start):
    process, folder = start(), engine_folder(tmp_path)
    note_child(folder, process.pid)
    note = folder / FILE_NAME
    content = json.loads(note.read_text())
    note.write_text(json.dumps({**content, "after_boot": "x" + content["after_boot"]}))
    assert end_orphans(tmp_path) == 0
    assert process.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "born": 0}', '{"pid": -5, "born": 0}'])
def test_a_note_that_makes_no_sense_ends_nothing(tmp_path, text):
    (engine_folder(tmp_path) / FILE_NAME).write_text(text)
    assert end_orphans(tmp_path) == 0


def test_a_folder_that_is_not_there_has_no_orphans(tmp_path):
    assert end_orphans(tmp_path / "none") == 0


def test_noting_a_process_that_has_ended_leaves_no_note(tmp_path, start):
    process = start()
    process.kill()
    process.wait()
    note_child(tmp_path, process.pid)
    assert list(tmp_path.iterdir()) == []
