"""The tests themselves: none is skipped, and what they need lies in the repository."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SAMPLE = """
import pytest

def test_that_lacks_its_data():
    pytest.skip("no such folder")

@pytest.mark.skip(reason="later")
def test_that_is_put_off():
    pass

@pytest.fixture
def absent():
    pytest.importorskip("no_such_package")

def test_whose_fixture_lacks_a_package(absent):
    pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the script is for a shell")
def test_a_skipped_test_fails(tmp_path: Path) -> None:
    sample = tmp_path / "test_sample.py"
    sample.write_text(SAMPLE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", f"--rootdir={tmp_path}", str(sample)]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "no such folder. Give the test what it needs" in done.stdout
    assert re.search(r"\d+ passed|\d+ skipped", done.stdout.splitlines()[-1]) is None, done.stdout


def test_no_test_reads_outside_the_repository() -> None:
    climbs = re.compile(r"\bparents\[(\d+)\]|\bROOT\.(parent)\b")
    # parents[len(parts)] of a file is the repository.
    found = [
        f"{within}: {climb[0]}"
        for path in sorted(TESTS.rglob("*.py"))
        for within in [path.relative_to(TESTS)]
        for climb in climbs.finditer(path.read_text(encoding="utf-8"))
        if climb[2] or int(climb[1]) > len(within.parts)
    ]
    assert found == []
