"""Every error text of the code with its remedy, by room: `python -m tools.error_messages` prints the tables.

The site puts them into docs/troubleshooting.md when it is built, so that the page can't be older than the code. Found
are calls of a class of the error tree (`ConfigError("…", remedy="…")`), rows of tables that name such a class
(`Rule("…", HordeRefused, "…", "…")`) or whose class has one as a default, and the findings of `doctor`.
"""

import ast
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Not the worker's: what runs inside the engine, and the doubles of the demo.
FOREIGN = ("engine/nodes", "demo", "safety/child")
#: What a text holds in the place of a value that is known at run time only.
UNKNOWN = "…"
#: What stands in the place of the error class for a reason not to pop.
WAIT = "WaitReason"
#: What makes a finding of `doctor`, from subject, text and remedy.
FINDINGS, FINDING_ARGUMENTS = ("doubtful", "bad", "rated"), 3


@dataclass(frozen=True, order=True)
class ErrorText:
    """One text as the owner reads it; values that are known at run time only are told as <name>."""

    room: str
    message: str
    remedy: str
    error: str


@dataclass(frozen=True)
class Scope:
    """The names that a text may refer to: the module's constants and dataclasses, the function's variables."""

    constants: Mapping[str, list[ast.expr]]
    #: the fields of each dataclass of the module
    records: Mapping[str, list[str]]
    #: the error class that a dataclass has where its call names none
    defaults: Mapping[str, str]
    variables: Mapping[str, list[ast.expr]] = field(default_factory=dict)
    #: which of several values a variable has: branches that set a text each give one text each
    turn: int = 0

    def find(self, name: str) -> ast.expr | None:
        values = self.variables.get(name) or self.constants.get(name) or []
        return values[min(self.turn, len(values) - 1)] if values else None


def texts(root: Path = ROOT) -> list[ErrorText]:
    """All texts, sorted by room and message."""
    paths = sorted(root.glob("worker/**/*.py"))
    #: each module's nodes, its tree first
    modules = {path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in paths}
    errors = error_classes(itertools.chain.from_iterable(modules.values()))
    found: set[ErrorText] = set()
    for path, nodes in modules.items():
        place = path.relative_to(root / "worker")
        if not place.as_posix().startswith(FOREIGN):
            room = place.parts[0].removesuffix(".py")
            for message, remedy, error in _texts_of(nodes, errors):
                # Where the words come from outside (an exception in ComfyUI), the class says what it is.
                told = message if _tells_something(message) else errors.get(error, "")
                if told:
                    found.add(ErrorText(room, told, remedy, error))
    return sorted(found)


def _tells_something(message: str) -> bool:
    """Whether a text has words of its own, besides values and the subject of a finding."""
    return bool(re.sub(rf"<[^>]*>|^\w+: |{UNKNOWN}|\W", "", message))


def error_classes(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Names of WorkerError and all its subclasses, wherever defined, with the first sentence of their docstring."""
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    known = {"WorkerError": ""}
    while True:
        more = {
            node.name: (ast.get_docstring(node) or "").split(".", maxsplit=1)[0]
            for node in classes
            if node.name not in known and any(isinstance(base, ast.Name) and base.id in known for base in node.bases)
        }
        if not more:
            return known
        known |= more


def _texts_of(nodes: Sequence[ast.AST], errors: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(message, remedy, class) for each text of a module."""
    tree = nodes[0]
    assert isinstance(tree, ast.Module)
    module = Scope(_assigned(tree.body), _records(tree), _defaults(tree, errors))
    inside: set[ast.AST] = set()
    for function in (node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
        within = list(ast.walk(function))
        scope = replace(module, variables=_assigned(within))
        calls = [node for node in within if isinstance(node, ast.Call)]
        inside.update(calls)
        for turn in range(max(map(len, scope.variables.values()), default=1)):
            for call in calls:
                yield from _text(call, replace(scope, turn=turn), errors)
    for node in nodes:
        if isinstance(node, ast.Call) and node not in inside:
            yield from _text(node, module, errors)


def _records(tree: ast.Module) -> dict[str, list[str]]:
    return {
        node.name: [
            line.target.id
            for line in node.body
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        ]
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def _defaults(tree: ast.Module, errors: Mapping[str, str]) -> dict[str, str]:
    return {
        node.name: line.value.id
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.value, ast.Name) and line.value.id in errors
    }


def _assigned(nodes: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    """What plain names are set to, in the order of the code."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found.setdefault(name, []).append(value)
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for target, value in zip(names, values, strict=False):
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, []).append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found.setdefault(name, []).append(value)
    return found


def _text(call: ast.Call, scope: Scope, errors: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    remedy = next((word.value for word in call.keywords if word.arg == "remedy"), None)
    if name in errors:
        message = _render(call.args[0], scope) if call.args else ""
        if message:
            yield message, _render(remedy, scope) if remedy else "", name
        return
    named = [arg.id for arg in call.args if isinstance(arg, ast.Name) and arg.id in errors]
    if named and name in scope.records:
        # A row of a table: behind the class stand the message, if the table has one, and the remedy.
        after = _index(call, named[0]) + 1
        given = dict(zip(scope.records[name][after:], call.args[after:], strict=False))
        advice = given.pop("remedy", remedy)
        told = (_render(arg, scope) for arg in given.values() if _is_text(arg, scope))
        message = next(told, "")
        yield message, _render(advice, scope) if advice else "", named[0]
    elif name in scope.defaults:
        # The class is named by a keyword, or not at all; the message stands before the remedy.
        fields = scope.records[name]
        row = dict(zip(fields, call.args, strict=False)) | {word.arg: word.value for word in call.keywords if word.arg}
        classes = [value.id for value in row.values() if isinstance(value, ast.Name) and value.id in errors]
        said, todo = row.get(fields[fields.index("remedy") - 1]), row.get("remedy")
        if said is not None:
            yield _render(said, scope), _render(todo, scope) if todo else "", (classes or [scope.defaults[name]])[0]
    elif name == "WaitReason" and len(call.args) > 1:
        yield _render(call.args[1], scope), _render(remedy, scope) if remedy else "", WAIT
    elif name in FINDINGS and len(call.args) == FINDING_ARGUMENTS:
        subject, finding, hint = (_render(arg, scope) for arg in call.args)
        yield f"{subject}: {finding}", hint, "doctor"


def _index(call: ast.Call, name: str) -> int:
    return next(number for number, arg in enumerate(call.args) if isinstance(arg, ast.Name) and arg.id == name)


def _is_text(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Name):
        value = scope.find(node.id)
        return value is not None and _is_text(value, replace(scope, variables={}))
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _render(node: ast.expr, scope: Scope) -> str:
    """The text an expression gives, as far as the code tells it."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_render(value, scope) for value in values)
        case ast.FormattedValue(value=value):
            return _render(value, scope)
        case ast.Name(id=name):
            found = scope.find(name)
            # Names inside the value are the module's: a variable that is made from itself must come to an end.
            known = found is not None and _is_text(found, scope)
            return _render(found, replace(scope, variables={})) if found is not None and known else f"<{name}>"
        case ast.Attribute(attr=name):
            return f"<{name.strip('_').replace('_', ' ')}>"
        case ast.Call(func=ast.Name(), args=[argument]) if _is_text(argument, scope):
            return _render(argument, scope)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _render(left, scope) + _render(right, scope)
        case ast.BoolOp(values=options):
            return next((text for option in options if (text := _render(option, scope)).strip(UNKNOWN)), UNKNOWN)
        case ast.IfExp(body=body, orelse=orelse):
            return " / ".join(text for part in (body, orelse) if (text := _render(part, scope)).strip())
    return UNKNOWN


def wait_table(found: list[ErrorText]) -> str:
    """Markdown: why no jobs are taken, a row for each reason."""
    rows = [text for text in found if text.error == WAIT]
    lines = ["| no new jobs: | what to do |", "|---|---|"]
    return "\n".join((*lines, *(f"| {_cell(text.message)} | {_cell(text.remedy)} |" for text in rows), ""))


def tables(found: list[ErrorText]) -> str:
    """Markdown: a section for each room, a row for each error."""
    lines: list[str] = []
    found = [text for text in found if text.error != WAIT]
    for room in sorted({text.room for text in found}):
        lines += ["", f"### {ROOMS.get(room, room)}", "", "| message | what to do | error |", "|---|---|---|"]
        lines += [
            f"| {_cell(text.message)} | {_cell(text.remedy)} | `{text.error}` |" for text in found if text.room == room
        ]
    return "\n".join((*lines[1:], ""))


#: Headings; a room that is not named here is headed by its own name.
ROOMS = {
    "app": "Starting and running",
    "commands": "Commands and `doctor`",
    "config": "Settings",
    "engine": "ComfyUI and its set-up",
    "horde": "The Horde",
    "jobs": "Jobs",
    "logs": "Logs",
    "models": "Models and downloads",
    "network_variables": "Proxies and certificates",
    "owner": "Maintenance and sleep",
    "process": "Child processes",
    "safety": "The safety checker",
    "untrusted": "Data from outside",
    "workflows": "Workflow templates",
}


def _cell(text: str) -> str:
    """One table cell: no line ends, no bars, nothing that Markdown or HTML would take for its own."""
    plain = " ".join(text.split())
    for character in "\\`*_[]<>|{}":
        plain = plain.replace(character, f"\\{character}")
    return plain


if __name__ == "__main__":
    sys.stdout.write(f"{wait_table(texts())}\n{tables(texts())}")
