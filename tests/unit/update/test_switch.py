"""One version in the place of another, whatever interrupts it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from worker.process.file_lock import in_use, is_in_use
from worker.update.switch import (
    FOLDER,
    MARKER,
    MOST_STARTS,
    Journal,
    SwitchFailed,
    confirm,
    git,
    leave_copy,
    main,
    read_journal,
    returning,
    step,
    users,
    write_journal,
)

ROUNDS = 50
#: Begins as launchers begin, and goes on in a fork for each folder: one that is killed, and then one that is not. The
#: moves take a millisecond: with a pause before each, every moment is one to be killed at.
KILLED_LAUNCHES = """
import os, pathlib, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
from worker.update.switch import main

def launched(arguments, pause_s):
    if child := os.fork():
        return child
    rename = pathlib.Path.rename
    pathlib.Path.rename = lambda *paths: (time.sleep(pause_s), rename(*paths))[1]
    try:
        code = main(arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    os._exit(code)

dice, killed = random.Random(7), 0
for root in sys.argv[2:]:
    child = launched([root], 0.01)
    time.sleep(dice.uniform(0.0, 0.1))
    os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert os.waitpid(launched([root, "doctor"], 0.0), 0)[1] == 0, root
print(killed)
"""
OLD = {"worker/a.py": "old a", "worker/deep/b.py": "old b", "start.sh": "old start", "only_old.md": "old"}
NEW = {"worker/a.py": "new a", "worker/c.py": "new c", "start.sh": "new start", "only_new/d.md": "new"}
OWN = {"bridgeData.yaml": "api_key: mine", "models/m.safetensors": "weights", "notes.txt": "mine"}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def read(folder: Path) -> dict[str, str]:
    found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_text() for name, file in found.items() if not name.startswith(FOLDER)}


def install(root: Path) -> Journal:
    """A folder with an old version, its owner's files, and a new version that lies ready."""
    write(root, OLD | OWN)
    write(root / FOLDER / "staged-2", NEW)
    leave_copy(root)
    journal = Journal(
        "staged", "2.0.0", "1.0.0", source="staged-2", backup="before-2",
        parts=("only_new", "start.sh", "worker"), fresh=("only_new",), gone=("only_old.md",),
    )  # fmt: skip
    write_journal(root, journal)
    return journal


def test_a_version_is_taken_serves_and_stays(tmp_path):
    install(tmp_path)
    assert "2.0.0 is in the place of 1.0.0" in step(tmp_path, starting=True)
    assert read(tmp_path) == NEW | OWN
    assert confirm(tmp_path) == "2.0.0"
    assert not (tmp_path / FOLDER / MARKER).exists()
    assert step(tmp_path, starting=True) == ""


def test_a_version_that_never_serves_gives_its_place_back(tmp_path):
    install(tmp_path)
    said = [step(tmp_path, starting=True) for _ in range(MOST_STARTS + 1)]
    assert "did not serve" in said[-1]
    assert read(tmp_path) == OLD | OWN
    assert confirm(tmp_path) == ""


def test_commands_beside_the_worker_are_no_tries(tmp_path):
    install(tmp_path)
    for _ in range(10):
        assert main([str(tmp_path), "doctor"]) == 0
    assert read(tmp_path) == NEW | OWN
    journal = read_journal(tmp_path)
    assert journal is not None
    assert (journal.phase, journal.starts) == ("trial", 0)


def test_an_owner_returns_and_nothing_of_the_new_version_stays(tmp_path):
    install(tmp_path)
    step(tmp_path, starting=False)
    confirm(tmp_path)
    journal = read_journal(tmp_path)
    assert journal is not None
    write_journal(tmp_path, returning(journal))
    step(tmp_path, starting=False)
    assert read(tmp_path) == OLD | OWN


def test_nothing_changes_places_while_a_worker_runs(tmp_path):
    install(tmp_path)
    with in_use(users(tmp_path)):
        assert is_in_use(users(tmp_path))
        assert "waits" in step(tmp_path, starting=True)
        assert read(tmp_path) == OLD | OWN
    assert not is_in_use(users(tmp_path))
    step(tmp_path, starting=True)
    assert read(tmp_path) == NEW | OWN


def test_what_a_killed_worker_leaves_keeps_nobody_waiting(tmp_path):
    install(tmp_path)
    (tmp_path / FOLDER / "running").mkdir()
    (tmp_path / FOLDER / "running" / "99999.lock").touch()
    assert not is_in_use(users(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"phase": "trial"}', '{"phase": "trial", "parts": 3}', "\x00"])
def test_a_journal_that_makes_no_sense_keeps_no_worker_from_starting(tmp_path, text):
    install(tmp_path)
    (tmp_path / FOLDER / "journal.json").write_text(text)
    assert main([str(tmp_path)]) == 0
    assert read(tmp_path) == OLD | OWN


def test_a_journal_that_names_what_is_the_owners_is_refused(tmp_path, capsys):
    journal = install(tmp_path)
    for name in ("bridgeData.yaml", "models", "../x", "worker/a.py"):
        write_journal(tmp_path, Journal(**{**journal.__dict__, "parts": (name,)}))
        assert main([str(tmp_path)]) == 1
        assert "no part of a version" in capsys.readouterr().err
    assert read(tmp_path) == OLD | OWN


@pytest.mark.processes
def test_fifty_kills_at_random_moments_leave_one_whole_version_and_all_of_the_owners(tmp_path):
    roots = [tmp_path / str(number) for number in range(ROUNDS)]
    for number, root in enumerate(roots):
        install(root)
        if number % 2:  # on the way back
            step(root, starting=False)
            done = read_journal(root)
            assert done is not None
            write_journal(root, returning(done))
    command = [sys.executable, "-I", "-c", KILLED_LAUNCHES, roots[0] / FOLDER / "code", *roots]
    launched = subprocess.run(command, capture_output=True, text=True, check=False)
    assert launched.returncode == 0, launched.stderr
    assert int(launched.stdout) > ROUNDS // 5
    ends = set()
    for number, root in enumerate(roots):
        found = read(root)
        assert found in (OLD | OWN, NEW | OWN), number
        left = read_journal(root)
        assert left is not None
        assert left.phase in {"trial", "settled"}
        ends.add((number % 2, "worker/c.py" in found))
    assert ends == {(0, True), (1, False)}


def test_the_journal_is_whole_or_as_it_was(tmp_path):
    install(tmp_path)
    assert json.loads((tmp_path / FOLDER / "journal.json").read_text())["phase"] == "staged"
    assert not list((tmp_path / FOLDER).glob(".journal*"))


def test_a_clone_of_another_user_is_named_with_what_to_do(tmp_path, monkeypatch):
    """git's own sentence says nothing of a remedy; as after a clone made with sudo."""
    git(tmp_path, "init", "--quiet")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SwitchFailed, match=r"another user.*safe\.directory"):
        git(tmp_path, "status")


def test_a_repository_that_the_shell_points_to_is_left_alone(tmp_path, monkeypatch):
    """Keepers of dotfiles export GIT_DIR; git would look for newer versions, and merge them, in there."""
    for name in ("mine", "clone"):
        (tmp_path / name).mkdir()
        git(tmp_path / name, "init", "--quiet", "-b", name)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "mine" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "mine"))
    assert git(tmp_path / "clone", "branch", "--show-current") == "clone\n"


def test_the_line_of_git_that_tells_what_failed_is_shown(tmp_path):
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "alias.tells", "!printf 'From /origin\n ! [rejected] v1 -> v1\n' >&2; false")
    with pytest.raises(SwitchFailed, match=r"git tells: ! \[rejected\]"):
        git(tmp_path, "tells")
