"""bridgeData.yaml as text -> settings, each with the lines it was written on.

Scalars stay text (`007` as a name, `no` in a blacklist): the type of the key decides what a text means. Pure. Every
error in the text becomes a ConfigError with the file, the line and the usual cause.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from worker.config.setting import Setting
from worker.config.yaml_slips import ODD_SPACES, Slip, find_slips
from worker.errors import ConfigError

#: Nesting depth that no setting needs more of.
MAX_DEPTH = 10
#: Values in one file with aliases resolved; limits how far nested aliases can expand.
MAX_VALUES = 20_000

_BACKSLASHES = "Inside double quotes a backslash starts an escape; put paths in single quotes, or use forward slashes."
#: (pattern in PyYAML's message, the usual cause and its remedy)
_USUAL_CAUSES = (
    (r"'\\t'", "Indent with spaces, not with tabs."),
    (r"escape", _BACKSLASHES),
    (r"special characters", "Delete the control character."),
    (r"another document", "Delete the line ---, which starts a second document."),
    (r"undefined alias|alphabetic or numeric", "Put a text that starts with * or & in quotes."),
    (r"cannot start any token", "Put a text that starts with @, % or ` in quotes."),
    (r"mapping values are not allowed", "Check the indentation; put a text that contains ': ' in quotes."),
    (r"quoted scalar", "Close the quote."),
    (r"^expected ','", "Separate the elements of the list with commas, and close its bracket."),
    (r".", "Check indentation, quotes and brackets on this line and the one before."),
)


def read_document(text: str, file: str) -> tuple[Setting, ...]:
    """All settings in order, repeated keys included. Raises ConfigError for anything but a YAML mapping."""
    text = text.removeprefix("\ufeff")
    slips = tuple(find_slips(text))
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _syntax_error(text, file, error, slips) from error
    except RecursionError as error:
        raise ConfigError(f"{file}: brackets are nested too deeply.", remedy="No setting needs this.") from error
    except (ValueError, OverflowError) as error:  # PyYAML passes a number beyond Unicode to chr()
        raise ConfigError(f"{file}: an escape such as \\U is no character.", remedy=_BACKSLASHES) from error
    if root is None or _empty(root):
        return ()
    for slip in slips:
        if slip.hidden or not isinstance(root, yaml.MappingNode):
            raise _as_error(slip, file)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{file}:{_line(root)}: the file does not consist of lines `key: value`.")
    return tuple(_Reader(file).settings(root))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _as_error(slip: Slip, file: str) -> ConfigError:
    return ConfigError(f"{file}:{slip.line}: {slip.what}.", remedy=slip.remedy)


def _syntax_error(text: str, file: str, error: yaml.YAMLError, slips: Sequence[Slip]) -> ConfigError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "not YAML"
        # A construct that is never closed is reported at its start.
        unclosed = "flow|simple key" if "end of stream" not in problem else "."
        if mark and error.context_mark and re.search(unclosed, error.context or ""):
            mark = error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    else:  # a ReaderError: a character that YAML forbids
        before = text[: getattr(error, "position", 0)]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        problem = f"{getattr(error, 'reason', 'not YAML')}"
    if problem.startswith("expected the node content"):
        earlier = text.splitlines()[: line - 1]
        # The end of the file, or the next key: the bracket is on the last line that says anything.
        line, column = max((number for number, each in enumerate(earlier, 1) if each.strip()), default=line), 1
        problem = "a value is missing, or a bracket is opened and not closed"
    if slip := next((slip for slip in slips if slip.line <= line), None):
        return _as_error(slip, file)
    cause = next(cause for pattern, cause in _USUAL_CAUSES if re.search(pattern, problem))
    if problem.startswith("expected ',"):
        problem = "a comma or a closing bracket is missing in the list that starts here"
    problem = re.sub(r"'[^'\\]{2,}'", "…", problem)  # a quoted word of the file may be a secret
    return ConfigError(f"{file}:{line}: column {column}: the file is not valid YAML: {problem}.", remedy=cause)


class _Reader:
    """Converts YAML nodes to settings within the limits."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._values = 0

    def settings(self, root: yaml.MappingNode) -> Iterator[Setting]:
        for key, node in root.value:
            name = self._name(key)
            items = [item for item in node.value if not _empty(item)] if isinstance(node, yaml.SequenceNode) else []
            yield Setting(name, self._value(node, 1), self._place(key), tuple(map(self._place, items)))

    def _place(self, node: yaml.Node) -> str:
        return f"{self._file}:{_line(node)}"

    def _name(self, key: yaml.Node) -> str:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{self._place(key)}: there is a list or mapping where the name of a key should be.")
        if key.tag == "tag:yaml.org,2002:merge":
            raise ConfigError(f"{self._place(key)}: a merge key (<<) is used.", remedy="Write the keys out instead.")
        return str(key.value)

    def _value(self, node: yaml.Node, depth: int) -> Any:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise ConfigError(f"{self._place(node)}: the settings are nested too deeply, or there are too many.")
        match node:
            case yaml.SequenceNode():
                return [self._value(item, depth + 1) for item in node.value if not _empty(item)]
            case yaml.MappingNode():
                return {self._name(key): self._value(value, depth + 1) for key, value in node.value}
            case _:
                return None if _empty(node) else _plain_spaces(str(node.value))


def _plain_spaces(text: str) -> str:
    """`text` with plain spaces for special ones: "TOP 3" copied from a web page has a no-break space."""
    return re.sub(f"[{ODD_SPACES}]", lambda found: " " if found[0].isspace() else "", text)


def _empty(node: yaml.Node) -> bool:
    """Whether no value is written: `key:`, `key: ~`, `key: null`, `key: ""`, a lone dash."""
    return isinstance(node, yaml.ScalarNode) and (node.tag == "tag:yaml.org,2002:null" or not node.value.strip())
