"""What goes wrong in a child process stands in a file of its own, too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.engine import launch
from worker.engine.child_log import TRACE_VARIABLE, log_variables


def child(tmp_path: Path, code: str, **environ: str) -> str:
    """What the child of a launcher writes into its trace, for this ComfyUI; empty if there is none."""
    (tmp_path / "main.py").write_text(code, encoding="utf-8")
    trace = tmp_path / "trace_1.log"
    with subprocess.Popen(
        [sys.executable, "-I", str(launch.__file__), str(tmp_path)],
        env={**os.environ, TRACE_VARIABLE: str(trace), **environ},
        stdin=subprocess.PIPE,  # whose end would end the child
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        process.wait(60)
    return trace.read_text(encoding="utf-8") if trace.exists() else ""


def test_warnings_and_errors_of_any_logger_are_kept_and_nothing_less(tmp_path: Path) -> None:
    code = """
import logging
logging.getLogger().setLevel(logging.INFO)
logging.info("loaded")
logging.getLogger("comfy").warning("slow disk")
logging.error("Traceback: node failed")
"""
    trace = child(tmp_path, code)
    assert "WARNING | comfy:" in trace
    assert "slow disk" in trace
    assert "node failed" in trace
    assert "loaded" not in trace


def test_what_ends_the_process_or_a_thread_is_kept_with_its_trace(tmp_path: Path) -> None:
    code = """
import threading
def fails(): raise ValueError("in a thread")
thread = threading.Thread(target=fails); thread.start(); thread.join()
raise RuntimeError("at the end")
"""
    trace = child(tmp_path, code)
    assert "ValueError: in a thread" in trace
    assert "RuntimeError: at the end" in trace
    assert trace.count("CRITICAL") == 2


def test_a_trace_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"import logging; logging.error('x'); open({str(mark)!r}, 'w')"
    child(tmp_path, code, AIWORKER_TRACE_LOG=str(tmp_path / "gone" / "trace_1.log"))
    assert mark.exists()


def test_without_the_variable_nothing_is_written(tmp_path: Path) -> None:
    assert child(tmp_path, "import logging; logging.error('x')", AIWORKER_TRACE_LOG="") == ""


@pytest.mark.parametrize(
    ("log", "trace"),
    [("bridge_1.log", "trace_1.log"), ("bridge_12.log", "trace_12.log"), ("bridge_safety.log", "trace_0.log")],
)
def test_a_trace_lies_beside_its_log(tmp_path: Path, log: str, trace: str) -> None:
    assert log_variables(tmp_path / log)[TRACE_VARIABLE] == str(tmp_path / trace)


@pytest.mark.skipif(sys.platform == "win32", reason="there no file that is open can be moved or deleted")
def test_a_trace_that_was_moved_or_deleted_is_begun_anew(tmp_path: Path) -> None:
    code = """
import logging, os, shutil
logging.error("first")
os.makedirs("logs/old")
trace = os.environ["AIWORKER_TRACE_LOG"]
os.rename(trace, "logs/old/trace.log")
logging.error("second")
shutil.rmtree(os.path.dirname(trace))
logging.error("third")
"""
    trace = tmp_path / "kept" / "trace_1.log"
    trace.parent.mkdir()
    child(tmp_path, code, AIWORKER_TRACE_LOG=str(trace))
    assert "first" in (tmp_path / "logs" / "old" / "trace.log").read_text(encoding="utf-8")
    assert ["third" in line for line in trace.read_text(encoding="utf-8").splitlines()] == [True]
