"""What a killed trial of an engine leaves behind. Trials themselves are in tests/engine/test_engine_trial.py."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from worker.demo.engine_trial import trial_folder

ROOT = Path(__file__).resolve().parents[3]
#: A trial whose engine is a program that sleeps, not tied to it as a real one is.
TRIAL = """
import asyncio, pathlib, subprocess, sys
from worker.demo.engine_trial import trial_folder
from worker.process.orphans import note_child

async def main():
    async with trial_folder(pathlib.Path(sys.argv[1])) as folder:
        (folder / "engine").mkdir()
        engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)
        note_child(folder / "engine", engine.pid)
        print(engine.pid, folder, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def start_trial(parent: Path) -> "tuple[subprocess.Popen[str], psutil.Process, Path]":
    """The trial, its engine, and the folder they work in."""
    trial = subprocess.Popen([sys.executable, "-c", TRIAL, str(parent)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert trial.stdout is not None
    pid, folder = trial.stdout.readline().split(maxsplit=1)
    return trial, psutil.Process(int(pid)), Path(folder.strip())


def folders_in(parent: Path) -> set[Path]:
    return {path for path in parent.iterdir() if path.is_dir()}


@pytest.mark.processes
async def test_the_next_trial_clears_away_what_a_killed_one_left_and_nothing_of_one_that_runs(tmp_path: Path) -> None:
    trial, engine, left = start_trial(tmp_path)
    async with trial_folder(tmp_path) as beside:
        assert folders_in(tmp_path) == {left, beside}
        trial.kill()
        trial.communicate()

        async with trial_folder(tmp_path) as folder:
            assert folders_in(tmp_path) == {beside, folder}
        assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
    assert not folders_in(tmp_path)
