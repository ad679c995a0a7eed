"""Fixtures every kind of test may use, the rule that nothing is skipped, and signals that reach what tests start."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from worker.engine.install.layout import Runtime

from .preloaded import DEVICE, ENGINE_PACKAGES, WORKER_PACKAGES, preloaded

#: Another ComfyUI than the installed one, and the Python that runs it.
OTHER_COMFYUI, OTHER_PYTHON = "AIWORKER_TEST_COMFYUI", "AIWORKER_TEST_COMFYUI_PYTHON"
FIXTURES = Path(__file__).with_name("fixtures")
#: Why a test may be skipped, and only on a system other than Linux.
PLATFORM_REASONS = frozenset(
    {
        "Windows ends processes without asking them",
        "there is no kill -9 on Windows",
        "the script is for a shell",
        "Windows has no SIGTERM to ignore",
        "this system has no disk that is always full",
        "signals of POSIX",
        "no symbolic links here",
    }
)


#: Kinds of tests that start processes, whose time is the machine's: `processes` among the unit tests.
WITH_PROCESSES = frozenset({"processes", "engine", "chaos", "e2e", "browser"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for processes gets a second try, so that a loaded machine does not fail a whole run.

    The summary names each: a test that needs its second try has a fault, if a rare one.
    """
    for item in items:
        if not WITH_PROCESSES.isdisjoint(mark.name for mark in item.iter_markers()):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_configure() -> None:
    """Let the processes that tests start hear Ctrl-C and the end of their terminal, however pytest was started.

    A program that is started by nohup, or in the background of a script, ignores these signals, and so would all that
    it starts. A handler is not handed on: this process goes on as before, its children have the default.
    """
    for name in ("SIGINT", "SIGHUP", "SIGQUIT"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests and all their modules are there to stay: the garbage collector never walks them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test fails unless the platform is the reason: what was not run must not look like success."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if sys.platform == "linux" or reason not in PLATFORM_REASONS:
            report.outcome = "failed"
            report.longrepr = (
                f"{report.nodeid} was skipped: {reason}. Give the test what it needs, or deselect it by -m."
            )
    return report


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    """What update-runtime installs: ComfyUI and its environment, or another ComfyUI that is to be tested (`./test.sh
    --comfyui PATH`). Fails where they are missing.
    """
    found = Runtime.locate()
    if tree := os.environ.get(OTHER_COMFYUI):
        python = os.environ.get(OTHER_PYTHON) or found.engine_python
        found = replace(found, comfyui=Path(tree).absolute(), engine_python=Path(python).absolute())
    for path in (found.engine_python, found.comfyui):
        if not path.exists():
            pytest.fail(f"{path} does not exist: ./test.sh makes it; without it, deselect by -m 'not engine'")
    return found


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the whole run: the processes of pytest-xdist have one each in it."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def quick_python(runtime: Runtime, run_folder: Path) -> Iterator[Path]:
    """The engine's Python, for tests that the start of an engine is not the subject of: torch is loaded already.

    On a card it is the real one, since drivers don't outlive a fork.
    """
    if sys.platform != "linux" or DEVICE != "cpu":
        yield runtime.engine_python
        return
    with preloaded(runtime.engine_python, run_folder / "preloaded-engine", ENGINE_PACKAGES) as python:
        yield python


@pytest.fixture(scope="session")
def quick_worker_python(run_folder: Path) -> Iterator[Path]:
    """This Python, for the worker's commands and for doubles, where their start is not the subject."""
    if sys.platform != "linux":
        yield Path(sys.executable)
        return
    here = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with preloaded(Path(sys.executable), run_folder / "preloaded-worker", WORKER_PACKAGES, here) as python:
        yield python


@pytest.fixture(scope="session")
def horde_facts() -> Path:
    """The Horde's messages, jobs, refusals and behaviours, as measured on a server of its code."""
    return FIXTURES / "horde"


@pytest.fixture(scope="session")
def model_lists() -> Path:
    """Extracts of the Horde's model lists, in their own format."""
    return FIXTURES / "models"
