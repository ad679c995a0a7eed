"""A running worker is found by a file that only its owner may read; what a killed one left is no worker."""

import json
import os
import stat
import sys

import psutil
import pytest

from worker.dashboard.whereabouts import ADDRESS_FILE, TOKEN_FILE, announced, own_token, running_workers

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def put(base, name, **content):
    folder = base / name
    folder.mkdir()
    me = {"name": name, "pid": os.getpid(), "born": psutil.Process().create_time(), "url": "http://x", "token": "t"}
    (folder / ADDRESS_FILE).write_text(json.dumps(me | content))


def test_a_worker_is_found_while_it_runs_and_not_after(tmp_path):
    with announced(tmp_path / "w", name="me", url="http://127.0.0.1:1", token="secret"):
        (found,) = running_workers(tmp_path)
        assert (found.name, found.url, found.token, found.pid) == ("me", "http://127.0.0.1:1", "secret", os.getpid())
    assert running_workers(tmp_path) == []


def test_what_a_killed_worker_left_is_no_worker_even_if_another_process_has_its_pid(tmp_path):
    put(tmp_path, "alive")
    put(tmp_path, "dead", pid=2**22 + 7)
    put(tmp_path, "reused", born=12345.0)
    assert [found.name for found in running_workers(tmp_path)] == ["alive"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the date of a start")
def test_a_worker_is_found_after_the_clock_was_set(tmp_path, monkeypatch):
    with announced(tmp_path / "w", name="me", url="http://127.0.0.1:1", token="secret"):
        date = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: date(process) - 400 * 86400)
        assert [found.name for found in running_workers(tmp_path)] == ["me"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"name": 1}', '{"pid": "x"}', "\x00" * 9000])
def test_a_file_that_makes_no_sense_is_passed_over(tmp_path, text):
    put(tmp_path, "alive")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / ADDRESS_FILE).write_text(text)
    assert [found.name for found in running_workers(tmp_path)] == ["alive"]


@POSIX
def test_only_the_owner_may_read_either_file(tmp_path):
    home = tmp_path / "w"
    own_token(home)
    with announced(home, name="me", url="http://x", token="t"):
        for name in (ADDRESS_FILE, TOKEN_FILE):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_the_token_outlives_the_worker(tmp_path):
    first = own_token(tmp_path)
    assert len(first) >= 32
    assert own_token(tmp_path) == first
    (tmp_path / TOKEN_FILE).write_text("short")
    assert own_token(tmp_path) not in {first, "short"}


def test_a_folder_that_can_not_be_written_to_costs_no_worker(tmp_path, warnings):
    (tmp_path / "file").write_text("")
    assert len(own_token(tmp_path / "file")) >= 32
    with announced(tmp_path / "file", name="me", url="http://x", token="t"):
        pass
    assert len(warnings) == 2


def test_a_worker_says_whether_it_has_a_page_and_one_of_an_older_version_has(tmp_path):
    put(tmp_path, "older")
    with announced(tmp_path / "w", name="without", url="http://x", token="t", page=False):
        assert {found.name: found.page for found in running_workers(tmp_path)} == {"older": True, "without": False}
