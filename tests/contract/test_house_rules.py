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


#: Modules that parse what is the worker's or its owner's own, each with what that is.
OWN_DATA = {
    "worker/workflows/__init__.py": "data of this package, and the owner's templates by yaml's safe loader",
    "worker/commands/doctor.py": "what the engine's Python prints for a program of ours",
    "worker/config/key_types.py": "the owner's environment variables",
    "worker/engine/install/record.py": "the set-up's own record",
    "worker/update/switch.py": "the journal of its own updates, before anything else can be imported",
    "worker/workflows/node_classes.py": "the snapshot of this package, and the one the worker keeps",
    "worker/workflows/template_reader.py": "the owner's templates",
}
#: What runs in other processes, or stands in for others in demo and tests.
ELSEWHERE = ("worker/untrusted/", "worker/demo/", "worker/engine/nodes/", "worker/safety/child/")
#: Calls that decode what may be foreign: by the last two names, or by the method alone.
DECODERS = {"json.loads", "json.load", "Image.open", "yaml.load", "yaml.safe_load", "pickle.load", "pickle.loads"}
BODY_METHODS = {"json", "aread", "iter_bytes", "aiter_bytes", "iter_text", "aiter_text", "iter_raw", "aiter_raw"}
BODY_ATTRIBUTES = {"content", "text"}


def _decodes(tree: ast.AST) -> list[str]:
    """What of a module decodes bytes or text that may be foreign, as `line: what`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if f"{owner}.{node.func.attr}" in DECODERS or node.func.attr in BODY_METHODS:
                found.append(f"{node.lineno}: {owner}.{node.func.attr}()")
        elif isinstance(node, ast.Attribute) and node.attr in BODY_ATTRIBUTES and isinstance(node.value, ast.Name):
            if node.value.id in {"response", "answer"}:
                found.append(f"{node.lineno}: {node.value.id}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module in {"json", "pickle", "yaml"}:
            found += [f"{node.lineno}: from {node.module}" for name in node.names if "load" in name.name]
    return found


def test_nothing_foreign_is_decoded_outside_the_room_for_it():
    wrong = {
        name: decoded
        for path in committed("worker/*.py", "worker/**/*.py")
        if not (name := path.relative_to(ROOT).as_posix()).startswith(ELSEWHERE) and name not in OWN_DATA
        if (decoded := _decodes(ast.parse(path.read_text("utf-8"))))
    }
    assert not wrong


def test_modules_that_are_excepted_from_that_rule_still_need_it():
    for name in OWN_DATA:
        assert (ROOT / name).is_file(), name
        source = (ROOT / name).read_text("utf-8")
        assert re.search(r"(json|yaml)\.(safe_)?load", source), name


def test_the_rule_finds_each_way_to_decode():
    source = """
import json, httpx
json.loads(body); Image.open(file); response.json(); answer.aread(); response.content; pickle.load(file)
"""
    assert len(_decodes(ast.parse(source))) == 6


def test_no_message_leaves_one_or_many_to_its_reader():
    """`worker.units.counted` says 1 job, 2 jobs."""
    wrong = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in committed("worker/*.py", "worker/**/*.py", "worker/**/*.html")
        for found in re.finditer(r"(?<!\w)[A-Za-z]{3,}(?<!http)\(s\)", path.read_text("utf-8"))
    ]
    assert not wrong
