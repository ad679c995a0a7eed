"""The log of a child goes on under its name, whatever others do with the file."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.engine import child_log, launch

if sys.platform == "win32":
    pytest.skip("there no file that is open can be moved or deleted", allow_module_level=True)

PATIENCE_S = 60.0
#: Prints numbers, from Python and past it, and looks at its log all the time.
TALKS = f"""
import itertools, os, runpy, time
runpy.run_path({child_log.__file__!r})["stay_with_log"](1, 2, look_s=0.02)
for number in itertools.count():
    print("print", number, flush=True)
    os.write(2, b"written %d\\n" % number)
    time.sleep(0.01)
"""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """That of a child which prints."""
    log = tmp_path / "logs" / "bridge_1.log"
    log.parent.mkdir()
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", TALKS],
            env={**os.environ, child_log.VARIABLE: str(log)},
            stdout=out,
            stderr=out,
        )
    yield log
    child.kill()
    child.wait()


def talks_into(log: Path) -> bool:
    said = log.read_text(encoding="utf-8") if log.exists() else ""
    return "print" in said and "written" in said


def test_a_log_that_is_moved_is_begun_anew_and_the_old_one_is_left_alone(log: Path) -> None:
    until(lambda: talks_into(log))
    moved = log.rename(log.with_name("old.log"))
    until(lambda: talks_into(log))
    size = moved.stat().st_size
    before = log.stat().st_size
    until(lambda: log.stat().st_size > before)
    assert moved.stat().st_size == size


def test_a_log_whose_folder_is_deleted_is_begun_anew(log: Path) -> None:
    until(lambda: talks_into(log))
    shutil.rmtree(log.parent)
    until(lambda: talks_into(log))


def test_a_log_that_can_not_be_begun_anew_costs_the_child_nothing(log: Path) -> None:
    until(lambda: talks_into(log))
    shutil.rmtree(log.parent)
    log.parent.touch()
    time.sleep(0.2)
    log.parent.unlink()
    until(lambda: talks_into(log))


def test_an_engine_looks_after_its_log(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import threading; print([each.name for each in threading.enumerate()])")
    ran = subprocess.Popen(
        [sys.executable, "-I", launch.__file__, str(tmp_path)],
        env={**os.environ, child_log.VARIABLE: str(tmp_path / "bridge_1.log")},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with ran:
        assert ran.stdout is not None
        assert "'log'" in ran.stdout.read()
