"""bridgeData.yaml as text -> its entries, each with the lines it stands on.

Scalars stay the text that was written (`007` as a name, `no` in a blacklist): what a text means is decided by the
key's type. Pure; every flaw of the text ends in a ConfigError that names file, line and the usual cause.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from worker.errors import ConfigError

#: Depth of lists in lists that settings can need at most.
MAX_DEPTH = 10
#: Values in one file, aliases resolved: bounds what a few lines of nested aliases can grow to.
MAX_VALUES = 20_000

_BACKSLASHES = "Inside double quotes a backslash begins an escape; write paths in single quotes, or with slashes."
#: (pattern in YAML's complaint, what the owner most likely did)
_USUAL_CAUSES = (
    (r"'\\t'", "Tabs stand where spaces must; indent with spaces."),
    (r"escape", _BACKSLASHES),
    (r"special characters", "A control character stands there; delete it."),
    (r"another document", "A line --- begins a second document; leave it out."),
    (r"undefined alias|alphabetic or numeric", "A text that begins with * or & must stand in quotes."),
    (r"cannot start any token", "A text that begins with @, % or ` must stand in quotes."),
    (r"mapping values are not allowed", "Check the indentation; a text that contains ': ' must stand in quotes."),
    (r"quoted scalar", "A quote is not closed."),
    (r".", "Check indentation, quotes and brackets there and on the line before."),
)


@dataclass(frozen=True)
class Entry:
    """One `key: value` at the top level. `line` is the key's; `item_lines` has one line for each list element."""

    name: str
    #: text, None, or lists and mappings of them
    value: Any
    line: int
    item_lines: tuple[int, ...] = ()


def read_document(text: str, file: str) -> tuple[Entry, ...]:
    """All entries in order, repeated keys included. Raises ConfigError for anything but a mapping in YAML."""
    try:
        root = yaml.compose(text.removeprefix("\ufeff"), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _flaw(text, file, error) from error
    except RecursionError as error:
        raise ConfigError(f"{file}: brackets are nested too deeply.", remedy="No setting needs that.") from error
    except (ValueError, OverflowError) as error:  # PyYAML hands a number beyond Unicode straight to chr()
        raise ConfigError(f"{file}: an escape such as \\U means no character.", remedy=_BACKSLASHES) from error
    if root is None or _empty(root):
        return ()
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{file}:{_line(root)}: the file does not consist of lines `key: value`.")
    return tuple(_Reader(file).entries(root))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _flaw(text: str, file: str, error: yaml.YAMLError) -> ConfigError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or error.context or "not YAML"
    else:  # a ReaderError: a character YAML does not allow at all
        before = text[: getattr(error, "position", 0)]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        problem = f"{getattr(error, 'reason', 'not YAML')}"
    cause = next(cause for pattern, cause in _USUAL_CAUSES if re.search(pattern, problem))
    problem = re.sub(r"'[^'\\]{2,}'", "…", problem)  # a word of the file, quoted: it may be a secret
    return ConfigError(f"{file}:{line}: column {column}: the file is not valid YAML: {problem}.", remedy=cause)


class _Reader:
    """Nodes -> values, within the bounds."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._values = 0

    def entries(self, root: yaml.MappingNode) -> Iterator[Entry]:
        for key, node in root.value:
            name = self._name(key)
            items = [item for item in node.value if not _empty(item)] if isinstance(node, yaml.SequenceNode) else []
            yield Entry(name, self._value(node, 1), _line(key), tuple(map(_line, items)))

    def _name(self, key: yaml.Node) -> str:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{self._file}:{_line(key)}: a list or mapping stands where the name of a key must.")
        return str(key.value)

    def _value(self, node: yaml.Node, depth: int) -> Any:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise ConfigError(f"{self._file}:{_line(node)}: the settings are nested too deeply, or too many.")
        match node:
            case yaml.SequenceNode():
                return [self._value(item, depth + 1) for item in node.value if not _empty(item)]
            case yaml.MappingNode():
                return {self._name(key): self._value(value, depth + 1) for key, value in node.value}
            case _:
                return None if _empty(node) else str(node.value)


def _empty(node: yaml.Node) -> bool:
    """Nothing is written there: `key:`, `key: ~`, `key: null`, `key: ""`, a lone dash."""
    return isinstance(node, yaml.ScalarNode) and (node.tag == "tag:yaml.org,2002:null" or not node.value.strip())
