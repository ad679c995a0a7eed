"""Trials of engines on the real ComfyUI: a copy of the tree in use is equal to it, a broken copy is told as broken."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from worker.demo import engine_trial
from worker.demo.engine_trial import try_engine
from worker.engine.install.layout import Runtime
from worker.engine.versions.shelf import Engine, Shelf
from worker.engine.versions.state import INSTALLED
from worker.engine.versions.tree import is_left_out
from worker.engine.versions.trial_report import TrialReport
from worker.workflows.library import Library

pytestmark = [pytest.mark.engine, pytest.mark.cpu, pytest.mark.asyncio(loop_scope="session")]

JOB = "Tiny SD1.5: text"
#: Inverts every picture, and lacks what LoRAs need.
BROKEN = """

_decode = VAEDecode.decode


def _inverted(self, *arguments, **named):
    return (1 - _decode(self, *arguments, **named)[0],)


VAEDecode.decode = _inverted
del NODE_CLASS_MAPPINGS["LoraLoader"]
"""


@pytest.fixture(autouse=True, scope="module")
def the_engine_in_use_runs_once() -> Iterator[None]:
    """It does the same in each trial of this module."""
    run = engine_trial._outcome
    kept: dict[str, engine_trial.Outcome] = {}

    async def outcome(trial: engine_trial.Trial, engine: Engine) -> engine_trial.Outcome:
        if engine.name != INSTALLED:
            return await run(trial, engine)
        if INSTALLED not in kept:
            kept[INSTALLED] = await run(trial, engine)
        return kept[INSTALLED]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_trial, "_outcome", outcome)
        yield


@pytest.fixture
def own_runtime(runtime: Runtime, quick_python: Path, tiny: Any, tmp_path: Path) -> Runtime:
    """The installed engine, with a folder of the test's own that has the tiny models."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    (folder / "tiny").symlink_to(tiny.comfyui.parent, target_is_directory=True)
    return replace(runtime, folder=folder, engine_python=quick_python)


@pytest.fixture
def shelf(own_runtime: Runtime) -> Shelf:
    return Shelf(own_runtime)


def put_copy(shelf: Shelf, runtime: Runtime, name: str, more: str = "", module: str = "nodes.py") -> None:
    """Put a copy of the tree on the shelf, its files shared; `module` with `more` at its end."""

    def make(folder: Path) -> None:
        tree = folder / "comfyui"

        def left_out(where: str, names: list[str]) -> list[str]:
            return [name for name in names if is_left_out(Path(where).relative_to(runtime.comfyui) / name)]

        shutil.copytree(runtime.comfyui, tree, copy_function=os.link, ignore=left_out)
        code = (tree / module).read_text(encoding="utf-8")
        (tree / module).unlink()
        (tree / module).write_text(code + more, encoding="utf-8")

    shelf.add(name, "a copy", make, python=runtime.engine_python)


async def trial(shelf: Shelf, runtime: Runtime, name: str) -> TrialReport:
    said: list[str] = []
    return await try_engine(runtime, shelf.need(name), shelf.in_use, Library.load(), said.append, only=JOB)


async def test_a_copy_of_the_engine_in_use_is_equal_to_it(shelf, own_runtime):
    put_copy(shelf, own_runtime, "copy")

    report = await trial(shelf, own_runtime, "copy")

    assert not report.error
    assert [(each.job, each.largest_difference, each.error_now) for each in report.pictures] == [(JOB, 0, "")]
    assert not report.templates_lost
    assert report.families_lost == report.families_gained == []
    assert report.templates_kept > 10


async def test_what_is_broken_in_an_engine_is_told_and_nothing_is_changed(shelf, own_runtime):
    put_copy(shelf, own_runtime, "broken", BROKEN)
    before = (shelf.state, sorted(path.name for path in shelf.folder.iterdir()))

    report = await trial(shelf, own_runtime, "broken")

    assert not report.error
    assert report.templates_lost
    assert all("no node class LoraLoader" in "; ".join(why) for why in report.templates_lost.values())
    [picture] = report.pictures
    assert picture.differs
    assert not report.takes
    assert "lost" in report.summary
    assert f"{JOB} by up to" in report.summary
    assert (shelf.state, sorted(path.name for path in shelf.folder.iterdir())) == before


async def test_an_engine_that_does_not_start_is_told_as_that(shelf, own_runtime):
    # A module that is among the first to be imported, before torch.
    put_copy(shelf, own_runtime, "dead", "\nraise RuntimeError('a package is missing')\n", "folder_paths.py")

    report = await trial(shelf, own_runtime, "dead")

    assert "It does not run" in report.error
    assert "ended with code 1" in report.error
    assert not report.takes
