"""Rules of this house that no linter knows."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: A module that grows beyond this has more than one purpose.
MODULE_MAX_LINES = 500


def committed(*patterns: str) -> list[Path]:
    """Files under version control, and new ones that are to be."""
    answer = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in answer.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_module_has_more_than_500_lines():
    modules = committed("*.py")
    assert len(modules) > 50
    long = {str(path.relative_to(ROOT)): lines for path in modules if (lines := _lines(path)) > MODULE_MAX_LINES}
    assert not long


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
