"""Rules of this house that no linter knows."""

import ast
import re
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


def test_what_a_package_says_of_its_modules_names_modules_it_has():
    """A module that was renamed lives on in the docstring of its package, and leads people nowhere."""
    # As in "`process` (start, stop)": a name with what it is for.
    wrong = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in committed("worker/*/__init__.py")
        for name in re.findall(r"`([a-z_]+)/?` \(", ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "")
        if not (file.with_name(f"{name}.py").is_file() or file.with_name(name).is_dir())
    ]
    assert not wrong
