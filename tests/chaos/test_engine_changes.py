"""Commands that change the engines, killed at random moments: the worker always has an engine to start."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.preloaded import start
from tests.unit.engine.fake_trees import fake_tree
from worker.engine.install.layout import Runtime
from worker.engine.versions.shelf import Shelf

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 on Windows")

#: Runs a command of `engine` on a runtime folder that is no more than an engine.
COMMAND = """
import sys
from dataclasses import replace
from pathlib import Path
from worker.engine.install.layout import Runtime
from worker.engine.versions.shelf import Shelf
from worker.engine.versions.sources import fetch, read_source

folder, command, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
shelf = Shelf(replace(Runtime.locate(), folder=folder, comfyui=folder / "comfyui", engine_python=Path(sys.executable)))
print("begun", flush=True)
if command == "add":
    source = read_source(sys.argv[4])
    make = lambda place: fetch(source, place / "comfyui", place / "scratch", print)
    shelf.add(name, source.spelled, make, python=Path(sys.executable))
elif command == "use":
    for _ in range(200):
        for each in (name, "installed"):
            shelf.use(each)
elif command == "remove":
    shelf.remove(name)
"""
ROUNDS = 15
PATIENCE_S = 60.0


Run = Callable[..., int]


@pytest.fixture
def run(quick_worker_python: Path, folder: Path) -> Run:
    """Runs a command, to its end or until it is killed. The exit code, negative for the signal."""

    def run(*arguments: str, kill_after_s: float | None = None) -> int:
        said, out = os.pipe()
        with Path(os.devnull).open("r+b") as nothing:
            child = start(
                quick_worker_python, ["-c", COMMAND, str(folder), *arguments], cwd=folder, env=os.environ,
                stdin=nothing.fileno(), stdout=out, stderr=nothing.fileno(),
            )  # fmt: skip
        os.close(out)
        with os.fdopen(said, "rb") as lines:
            lines.readline()
            if kill_after_s is not None:
                time.sleep(kill_after_s)
                child.kill()
            lines.read()
        return child.wait()

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fake_tree(tmp_path / "runtime" / "comfyui", "0.1")
    return tmp_path / "runtime"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of some hundred files, so that there is a middle of copying it."""
    tree = fake_tree(tmp_path / "tree", "0.33.0")
    for number in range(600):
        (tree / f"module_{number}.py").write_text("x = 1\n" * 50, encoding="utf-8")
    return tree


def shelf_of(folder: Path) -> Shelf:
    runtime = Runtime.locate(folder.parent, {"AIWORKER_RUNTIME_DIR": str(folder)})
    return Shelf(Runtime(folder, folder, runtime.worker_python, Path(sys.executable), folder / "comfyui", None))


def whole(folder: Path, name: str) -> bool:
    return len(list((folder / "versions" / name / "comfyui").glob("module_*.py"))) == 600


def test_an_engine_is_added_whole_or_not_at_all_whenever_the_command_is_killed(
    run: Run, folder: Path, tree: Path
) -> None:
    chance = random.Random(7)
    shelf, killed = shelf_of(folder), 0
    for number in range(ROUNDS):
        code = run("add", f"new-{number}", str(tree), kill_after_s=chance.uniform(0, 0.12))
        killed += code == -signal.SIGKILL
        assert shelf.in_use.name == "installed"
        assert shelf.in_use.stands
        found = shelf.find(f"new-{number}")
        assert found is None or whole(folder, found.name)
    assert killed > ROUNDS // 4

    assert run("add", "last", str(tree)) == 0
    assert whole(folder, "last")
    assert not list((folder / "versions").glob("*.partial"))


def test_one_engine_or_the_other_is_in_use_whenever_the_command_is_killed(run: Run, folder: Path, tree: Path) -> None:
    chance = random.Random(8)
    assert run("add", "new", str(tree)) == 0
    shelf, seen = shelf_of(folder), set()
    for _ in range(ROUNDS):
        assert run("use", "new", kill_after_s=chance.uniform(0, 0.1)) == -signal.SIGKILL
        state = shelf.state
        seen.add(state.current)
        assert state.current in {"new", "installed"}
        assert shelf.in_use.name == state.current
        assert shelf.in_use.stands
    assert seen == {"new", "installed"}


def test_an_engine_that_was_being_removed_is_whole_or_gone(run: Run, folder: Path, tree: Path) -> None:
    chance = random.Random(9)
    shelf = shelf_of(folder)
    for number in range(ROUNDS // 2):
        name = f"old-{number}"
        assert run("add", name, str(tree)) == 0
        run("remove", name, kill_after_s=chance.uniform(0, 0.06))
        found = shelf.find(name)
        assert found is None or whole(folder, name)
        assert shelf.in_use.stands
    assert run("add", "last", str(tree)) == 0
    assert not list((folder / "versions").glob("*.gone"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems end no children with their parent")
def test_git_ends_with_the_command_that_is_killed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git, told = tmp_path / "bin" / "git", tmp_path / "pid"
    git.parent.mkdir()
    git.write_text(f"#!/bin/sh\necho $$ > {told}.new\nmv {told}.new {told}\nexec sleep 600\n", encoding="utf-8")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}{os.pathsep}{os.environ['PATH']}")
    adding = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(folder), "add", "new", "https://host.example/a.git@v1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(told.exists)
        adding.kill()
        adding.wait()
        pid = int(told.read_text(encoding="utf-8"))
        wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    finally:
        adding.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
