"""The measurements of bench/: each can be started, and says what `./test.sh --bench` reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHES = sorted(path for path in (ROOT / "bench").glob("*.py") if '"meets"' in path.read_text(encoding="utf-8"))


#: Runs each of the files that it is given with --help; in one process, since they import nearly the same.
HELP = """
import contextlib, io, json, runpy, sys
told = {}
sys.path.insert(0, "bench")
for file in sys.argv[1:]:
    sys.argv = [file, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        runpy.run_path(file, run_name="__main__")
    told[file] = said.getvalue()
print(json.dumps(told))
"""


def run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.fixture(scope="module")
def helps() -> "dict[str, str]":
    return dict(json.loads(run("-c", HELP, *map(str, BENCHES))))


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.stem)
def test_every_bench_can_be_started_and_says_what_it_is(bench, helps):
    assert "usage" in helps[str(bench)]


def test_a_bench_ends_with_its_figure_its_goal_and_whether_it_meets_it():
    result = json.loads(run("bench/translate.py", "--turns", "1").splitlines()[-1])
    assert result["name"] == "translate"
    assert result["figure"].keys() == result["goal"].keys()
    assert isinstance(result["meets"], bool)
