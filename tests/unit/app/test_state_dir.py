"""One worker of a name on a machine, and where it keeps its things."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker.app.state_dir import claim_log_folder, only_one, worker_folder
from worker.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
URL = "https://aihorde.net/api/"
HOLD = """
import sys, pathlib
from worker.app.state_dir import only_one
folder, home = map(pathlib.Path, sys.argv[3:])
with only_one(sys.argv[1], sys.argv[2], folder=folder, home=home):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, home: Path | None = None) -> "subprocess.Popen[str]":
    """Another process that holds the locks until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, "a worker", URL, str(folder), str(home or folder / "other")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_a_second_worker_of_the_name_is_told_who_is_first_and_what_to_do(tmp_path):
    first = holder(tmp_path)
    try:
        with pytest.raises(
            ConfigError, match=f"'a worker' runs on this machine already .process {first.pid}"
        ) as caught:
            only_one("a worker", URL, folder=tmp_path, home=tmp_path / "home").__enter__()
        assert "-n NAME" in caught.value.remedy
    finally:
        end(first)


def test_a_second_worker_is_told_too_where_it_has_another_folder_for_temporary_files(tmp_path):
    """It ended the engines of the first one as orphans, and reported its jobs as lost."""
    first = holder(tmp_path, home=tmp_path / "home")
    (tmp_path / "of this one").mkdir()
    try:
        with pytest.raises(ConfigError, match=f"runs in {tmp_path / 'home'} already .process {first.pid}"):
            only_one("a worker", URL, folder=tmp_path / "of this one", home=tmp_path / "home").__enter__()
    finally:
        end(first)


def test_a_worker_whose_folder_can_not_be_made_is_not_refused_for_that(tmp_path):
    (tmp_path / "file").touch()
    with only_one("a worker", URL, folder=tmp_path, home=tmp_path / "file" / "home"):
        pass


def test_the_lock_of_a_killed_worker_is_free(tmp_path):
    end(holder(tmp_path))
    with only_one("a worker", URL, folder=tmp_path, home=tmp_path / "home"):
        pass


def test_a_lock_is_given_up_at_the_end_and_can_be_had_again(tmp_path):
    for _ in range(2):
        with only_one("a worker", URL, folder=tmp_path, home=tmp_path / "home"):
            pass


@pytest.mark.parametrize(("name", "url"), [("another", URL), ("a worker", "http://127.0.0.1:7001/api")])
def test_another_name_or_another_horde_is_another_worker(tmp_path, name, url):
    first = holder(tmp_path)
    try:
        with only_one(name, url, folder=tmp_path, home=tmp_path / "home"):
            pass
    finally:
        end(first)


def test_a_slash_at_the_end_of_the_address_makes_no_other_worker(tmp_path):
    first = holder(tmp_path)
    try:
        with pytest.raises(ConfigError):
            only_one("a worker", URL.rstrip("/"), folder=tmp_path, home=tmp_path / "home").__enter__()
    finally:
        end(first)


def test_a_link_in_place_of_the_lock_file_is_not_followed(tmp_path):
    with only_one("a worker", URL, folder=tmp_path, home=tmp_path / "home"):
        pass
    [lock] = tmp_path.glob("*.lock")
    lock.unlink()
    target = tmp_path / "target"
    lock.symlink_to(target)
    with pytest.raises(ConfigError, match="can't be opened"):
        only_one("a worker", URL, folder=tmp_path, home=tmp_path / "home").__enter__()
    assert not target.exists()


def test_workers_have_folders_of_their_own_that_tell_whose_they_are():
    folders = {
        worker_folder(Path("/r"), {}, name=name, horde_url=url)
        for name in ("My worker!", "my worker", "…")
        for url in (URL, "http://localhost/api")
    }
    assert len(folders) == 6
    assert sum(folder.name.startswith("My-worker-") for folder in folders) == 2
    assert {folder.parent for folder in folders} == {Path("/r/workers")}


def test_an_owner_can_put_the_folder_elsewhere():
    folder = worker_folder(Path("/r"), {"AIWORKER_STATE_DIR": "/elsewhere"}, name="w", horde_url=URL)
    assert folder.parent == Path("/elsewhere")


def test_a_second_worker_in_the_same_folder_writes_logs_of_its_own(tmp_path):
    logs = tmp_path / "logs"
    assert claim_log_folder(logs, "one") == logs
    assert claim_log_folder(logs, "two/ü x") == logs / "two-ü-x"


def test_a_log_folder_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(ConfigError, match="cannot be used"):
        claim_log_folder(tmp_path / "logs", "one")
