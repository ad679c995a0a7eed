"""The measurements of bench/: each can be started, and says what `./test.sh --bench` reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHES = sorted(path for path in (ROOT / "bench").glob("*.py") if '"meets"' in path.read_text(encoding="utf-8"))


def run(bench: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(bench), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.stem)
def test_every_bench_can_be_started_and_says_what_it_is(bench):
    assert "usage" in run(bench, "--help").stdout


def test_a_bench_ends_with_its_figure_its_goal_and_whether_it_meets_it():
    result = json.loads(run(ROOT / "bench" / "translate.py", "--turns", "1").stdout.splitlines()[-1])
    assert result["name"] == "translate"
    assert result["figure"].keys() == result["goal"].keys()
    assert isinstance(result["meets"], bool)
