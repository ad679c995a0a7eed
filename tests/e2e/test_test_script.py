"""`test.sh`: which tools it calls, in which order, and what becomes of one that fails."""

import json
import shutil
import sys

import pytest

from tests.e2e.place import Place, program

pytestmark = pytest.mark.e2e

PYTEST = "-m pytest"
PARALLEL = "-n 4 --dist worksteal"


def with_tools(place: Place, *, failing: str = "none") -> None:
    """Tools that tell they were called; `failing` is the one that fails."""
    program(place.clone / "update-runtime.sh", 'echo "setting up $*"')
    body = f'echo "$(basename "$0") $*"; [ "$(basename "$0") $1" != "{failing}" ] && [ "$*" != "{failing}" ]'
    (place.system / "basename").symlink_to(str(shutil.which("basename")))
    for tool in ("ruff", "mypy", "lint-imports", "python"):
        program(place.clone / "runtime" / "worker" / "bin" / tool, body)


def test_every_step_of_the_tests_runs_and_pytest_comes_last(place):
    with_tools(place)
    done = place.run("test.sh")
    assert done.returncode == 0, done.stderr
    calls = [line for line in done.stdout.splitlines() if not line.startswith("==")]
    assert calls == [
        "setting up --dev",
        "ruff check .",
        "ruff format --check .",
        "mypy ",
        "lint-imports ",
        f"python {PYTEST} {PARALLEL}",
    ]


@pytest.mark.parametrize("failing", ["ruff check", "ruff format", "mypy ", "lint-imports ", f"{PYTEST} {PARALLEL}"])
def test_a_step_that_fails_fails_the_whole_but_stops_nothing(place, failing):
    with_tools(place, failing=failing)
    done = place.run("test.sh")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("python -m pytest")


def test_quick_is_all_checks_and_the_unit_tests(place):
    with_tools(place)
    done = place.run("test.sh", "--quick")
    assert done.returncode == 0, done.stderr
    calls = [line.partition(" ")[0] for line in done.stdout.splitlines() if not line.startswith("==")]
    assert calls == ["setting", "ruff", "ruff", "mypy", "lint-imports", "python"]
    assert (
        done.stdout.splitlines()[-1] == f"python {PYTEST} -n 4 --dist worksteal -m not processes "
        "--hypothesis-profile quick tests/unit"
    )


def test_arguments_go_to_pytest_alone(place):
    with_tools(place)
    done = place.run("test.sh", "tests/unit", "-k", "a b")
    assert done.stdout.splitlines() == ["setting up --dev", "python -m pytest tests/unit -k a b"]


def test_a_soak_gets_its_arguments_and_its_exit_code_is_the_scripts(place):
    with_tools(place, failing="-m tests.chaos.soak 60 --json")
    done = place.run("test.sh", "--soak", "60", "--json")
    assert done.stdout.splitlines() == ["setting up --dev", "python -m tests.chaos.soak 60 --json"]
    assert done.returncode == 1


def with_benches(place: Place, **benches: str) -> None:
    program(place.clone / "update-runtime.sh", "exit 0")
    program(place.clone / "runtime" / "worker" / "bin" / "python", f'exec {sys.executable} "$@"')
    (place.clone / "bench").mkdir()
    (place.clone / "bench" / "helper.py").write_text("raise SystemExit('not a bench')")
    for name, code in benches.items():
        (place.clone / "bench" / f"{name}.py").write_text(code)


GOOD = """print("warming up"); print('{"name": "x", "figure": 0.97, "goal": 0.95, "meets": true, "more": 1}')"""


def test_a_bench_prints_its_json_last(place):
    with_benches(place, throughput=GOOD)
    done = place.run("test.sh", "--bench", "throughput")
    assert json.loads(done.stdout.splitlines()[-1])["figure"] == 0.97


def test_all_benches_give_one_object_with_a_row_each(place):
    with_benches(place, throughput=GOOD, start=GOOD)
    done = place.run("test.sh", "--bench", "all")
    row = {"figure": 0.97, "goal": 0.95, "meets": True}
    assert json.loads(done.stdout) == {"start": row, "throughput": row}
    assert done.returncode == 0


def test_a_bench_that_dies_is_a_row_that_says_so_and_a_failure(place):
    with_benches(place, throughput=GOOD, start="import sys; 'meets'; sys.exit(1)".replace("'", '"'))
    done = place.run("test.sh", "--bench", "all")
    rows = json.loads(done.stdout)
    assert rows["start"]["meets"] is False
    assert "error" in rows["start"]
    assert rows["throughput"]["meets"] is True
    assert done.returncode == 1


def test_a_bench_without_a_name_is_wrong_usage_that_lists_them(place):
    with_benches(place, throughput=GOOD, start=GOOD)
    done = place.run("test.sh", "--bench")
    assert done.returncode == 2
    assert "all|start|throughput" in done.stderr
