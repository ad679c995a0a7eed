"""The demo with two engines on the real ComfyUI, either of which is killed in the middle of the work."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
JOBS = 12
#: Prompts after which an engine has surely done what another left behind: its own two, then those two.
TAKEN_OVER = 4
#: The command without its look at the environments, which may lie elsewhere where tests run.
DEMO = f"""
import sys
from dataclasses import replace
from pathlib import Path
from worker.demo.run import run_demo
from worker.engine.install.layout import Runtime
runtime = replace(Runtime.locate(), engine_python=Path(sys.argv[1]))
sys.exit(not run_demo(runtime, jobs={JOBS}, slots=2, out=Path("out"), as_json=True))
"""
#: For the whole demo on a loaded machine, its engines' first start included.
PATIENCE_S = 480.0


@pytest.fixture
def demo(tmp_path: Path, quick_python: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        (tmp_path / "stderr.txt").open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", DEMO, str(quick_python)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as child,
    ):
        yield child
        child.kill()


def wait_until(condition: Callable[[], object], child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert child.poll() is None, "the demo was over before"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_at_work(log: Path, *, after: int) -> bool:
    """Whether an engine has a job in hand and has done more than so many."""
    said = log.read_text(errors="replace") if log.exists() else ""
    done = said.count("Prompt executed")
    return done >= after and said.count("got prompt") > done


def engine_of(child: subprocess.Popen[str], slot: int) -> psutil.Process | None:
    """The ComfyUI of a slot, by the working folder in its command line."""
    folder = str(Path("engines") / str(slot))
    for process in psutil.Process(child.pid).children(recursive=True):
        try:
            if any(part.endswith(folder) for part in process.cmdline()):
                return process
        except psutil.Error:
            continue
    return None


def test_either_engine_can_be_killed_and_every_job_is_delivered(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    # The second one only after it has done what it took over from the first: a job has two tries.
    for slot, done in ((1, 0), (2, TAKEN_OVER)):
        log = tmp_path / "logs" / f"bridge_{slot}.log"
        wait_until(lambda log=log, done=done: is_at_work(log, after=done), demo)
        engine = engine_of(demo, slot)
        assert engine is not None
        engine.kill()

    out, _ = demo.communicate(timeout=PATIENCE_S)

    answer = json.loads(out)
    said = (tmp_path / "stderr.txt").read_text()
    assert answer["ok"], said
    assert [job["ok"] for job in answer["jobs"]] == [True] * JOBS
    assert said.count(" is down: ") == 2
    assert not re.search(r"\b[1-9]\d* faulted|Job \w+ faulted", said)
    assert demo.returncode == 0
