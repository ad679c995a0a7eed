"""Usual mistakes in hand-written YAML, found where they begin.

A YAML parser reports the place at which it can no longer continue: an unclosed quote at the end of the file, a missing
space one line later, a dash without a space not at all. Pure. A message never shows the text of a line, which may be
a secret; only names of known keys appear.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.config.key_types import key_doc
from worker.config.schema import FIELDS, BridgeData

#: Spaces other than the plain one, and characters of no width; editors and web pages insert them.
ODD_SPACES = "\u00a0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
TYPOGRAPHIC_QUOTES = "\u2018-\u201f\u00ab\u00bb\u2039\u203a"
#: Keys whose list elements are mappings, and the names used in these.
_NESTING = frozenset({"custom_models", "device_settings"})
_NESTED = frozenset({"name", "baseline", "filepath", "files", "device", "max_threads", "max_power", "memory_mode"})

_KEY = re.compile(
    rf"(?P<indent>[ \t{ODD_SPACES}]*)(?P<dash>-[ \t]+)?`?(?P<name>[A-Za-z_]\w*)(?P<blanks>\s*):(?P<rest>.*)"
)
_BLANKS = re.compile(rf"\A[\s{ODD_SPACES}]*")
_DASH = re.compile(rf"[ \t{ODD_SPACES}]*-(?P<rest>[^\s-].*)")
_NO_COLON = re.compile(r"[ \t]*(?P<name>[a-z]+_[a-z_]+|nsfw|blacklist|devices)\s*(?P<sign>=|\s)\s*\S")
#: Colons of East Asian keyboards, and the sign that some editors make of a colon.
WIDE_COLONS = "\uff1a\ufe55\ufe13\ua789\u2236"
_WIDE_COLON = re.compile(rf"[ \t]*(?:-[ \t]+)?(?P<name>[A-Za-z_]\w*)\s*[{WIDE_COLONS}]")
_CONFLICT = re.compile(r"(?:<{7}|>{7})(?: |$)|={7}$")
_MARKUP = re.compile(r"\s*<(?:!doctype|html|\?xml|head|body)\b", re.IGNORECASE)
_BLOCK_TEXT = re.compile(r":\s*[|>][+-]?\d*\s*(#.*)?$")


@dataclass(frozen=True)
class Slip:
    """A mistake. `hidden`: YAML accepts it and reads something the owner did not mean."""

    #: from 1
    line: int
    what: str
    remedy: str
    hidden: bool = False


def find_slips(text: str) -> Iterator[Slip]:
    """All mistakes in file order. Those that are not `hidden` are only probable unless YAML refuses the text."""
    lines = re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text)
    parent, quoted_until = "", -1
    for index in _lines_of_yaml(lines):
        line = lines[index]
        if index <= quoted_until:
            continue
        yield from _indentation(line, index + 1)
        yield from _not_settings(line, index + 1)
        if found := _KEY.match(line):
            yield from _key_line(found, index + 1, parent)
            if not found["indent"] and not found["dash"]:
                parent = FIELDS.get(found["name"], found["name"])
            value = found["rest"]
        elif found := _DASH.match(line):
            yield Slip(
                index + 1, "a space is missing after the dash", "Write - and a space before each element.",
                hidden=_is_list(parent),
            )  # fmt: skip
            value = found["rest"]
        else:
            if (found := _WIDE_COLON.match(line)) and found["name"] in FIELDS.keys() | _NESTED:
                what = f"the colon after {found['name']} is another character that looks like one"
                yield Slip(index + 1, what, "Type it with a Latin keyboard: a plain colon and a space.", hidden=True)
            elif found := _NO_COLON.match(line):
                yield from _missing_colon(found, index + 1)
            value = re.sub(r"^\s*-\s+", "", line)
        if value.rstrip().endswith(",") and value.strip()[:1] not in ("[", "{"):
            yield _comma(line, index + 1, parent)
        else:
            found_slips, quoted_until = _quotes(value.strip(), index, lines)
            yield from found_slips


def _quotes(value: str, index: int, lines: list[str]) -> tuple[Sequence[Slip], int]:
    """Mistakes with quotes in a value on line `index`, and the line on which a quote over several lines closes."""
    quote, end = _scan(value)
    if quote is None:
        return tuple(_typographic(value, index + 1)), -1
    if end is not None:
        remedy = "Put the whole value in one pair of quotes; use single quotes around a text with double quotes."
        return (Slip(index + 1, "there is text after the closing quote", remedy),), -1
    closing, swallowed = _closing_line(quote, lines, index)
    if closing >= 0:
        return (), closing
    remedy = f"Write {quote} at the end of the value."
    return (Slip(index + 1, "a quote is opened and not closed", remedy, hidden=swallowed),), -1


def _lines_of_yaml(lines: list[str]) -> Iterator[int]:
    """Indexes of the lines that are neither empty, nor comments, nor document markers, nor inside a block text."""
    block_indent: int | None = None
    for index, line in enumerate(lines):
        content = line.strip()
        if not content or content.startswith("#") or content in ("---", "..."):
            continue
        indent = len(line) - len(line.lstrip())
        if block_indent is not None and indent > block_indent:
            continue
        block_indent = indent if _BLOCK_TEXT.search(line) else None
        yield index


def _not_settings(line: str, number: int) -> Iterator[Slip]:
    """Lines that another program left in the file, or whose file is another one altogether."""
    if _CONFLICT.match(line):
        remedy = "Keep one of the versions between the marks <<<<<<<, ======= and >>>>>>>, and delete the marks."
        yield Slip(number, "the file has marks of a merge that met a conflict", remedy, hidden=True)
    elif _MARKUP.match(line):
        remedy = "On GitHub open the file with `Raw` before you save it."
        yield Slip(number, "the file is a web page, not settings", remedy, hidden=True)


def _indentation(line: str, number: int) -> Iterator[Slip]:
    blank = "".join(_BLANKS.findall(line)[:1])
    if "\t" in blank:
        yield Slip(number, "the line is indented with a tab", "Indent with spaces, not with tabs.")
    elif re.search(f"[{ODD_SPACES}]", blank):
        yield Slip(
            number, "a no-break space or another special space is at the start of the line",
            "Replace it with plain spaces.", hidden=True,
        )  # fmt: skip


def _key_line(found: "re.Match[str]", number: int, parent: str) -> Iterator[Slip]:
    name, rest = found["name"], found["rest"]
    if name not in FIELDS and name not in _NESTED:
        return
    nested = parent in _NESTING and name in _NESTED
    if found["dash"] and not nested and name in FIELDS:
        yield Slip(
            number, f"there is a dash before {name}",
            "The settings are no list: delete the dash (and any backticks) before each key.",
        )  # fmt: skip
    elif found["indent"] and not nested and name in FIELDS:
        yield Slip(number, f"{name} is indented", "Start every key in the first column.")
    if rest and re.match(f"[{ODD_SPACES}]", rest):
        yield Slip(number, f"a no-break space follows the colon of {name}", "Replace it with a plain space.")
    elif rest and not rest[0].isspace():
        yield Slip(number, f"a space is missing after the colon of {name}", "Write a space after each colon.")


def _missing_colon(found: "re.Match[str]", number: int) -> Iterator[Slip]:
    if found["name"] in FIELDS:
        what = "there is an equals sign instead of a colon" if found["sign"] == "=" else "a colon is missing"
        yield Slip(number, f"{what} after {found['name']}", "Write lines as `key: value`.")


def _comma(line: str, number: int, parent: str) -> Slip:
    """A comma at the end of a line, as in JSON or Python. In a list it becomes part of the element without a word."""
    element = _is_list(parent) and line.lstrip().startswith("-")
    return Slip(number, "there is a comma at the end of the line", "Delete the comma.", hidden=element)


def _typographic(value: str, number: int) -> Iterator[Slip]:
    if re.match(rf"[\[{{]?\s*[{TYPOGRAPHIC_QUOTES}]", value) or re.search(rf",\s*[{TYPOGRAPHIC_QUOTES}]", value):
        yield Slip(number, "there are typographic quotes", "Replace them with plain quotes: \" or '.", hidden=True)


def _scan(value: str) -> tuple[str | None, int | None]:
    """The quote that is still open at the end of the line, or the one that text follows, and where it closed."""
    flow = value[:1] in "[{" and bool(value)
    position, start = 0, True
    while position < len(value):
        letter = value[position]
        if start and letter in "\"'":
            close = _closing(value, position)
            if close is None:
                return letter, None
            after = value[close + 1 :].lstrip()
            if after and not after.startswith(("#", ":")) and not (flow and after[0] in ",]}"):
                return letter, close
            position, start = close, False
        elif letter == "#" and (position == 0 or value[position - 1].isspace()):
            break
        elif not letter.isspace():
            start = flow and letter in "[{,:"
            if not flow:
                break  # a plain text: quotes inside it are part of it
        position += 1
    return None, None


def _closing(value: str, start: int) -> int | None:
    """Where the quote that opens at `start` closes on this line."""
    quote, position = value[start], start + 1
    while position < len(value):
        if quote == '"' and value[position] == "\\":
            position += 1
        elif value[position] == quote:
            if quote == "'" and value[position + 1 : position + 2] == "'":
                position += 1
            else:
                return position
        position += 1
    return None


def _closing_line(quote: str, lines: list[str], index: int) -> tuple[int, bool]:
    """Where a quote that is open at the end of line `index` closes; -1 if never, or only after a line with a key.

    And whether there is such a line.
    """
    for following in range(index + 1, len(lines)):
        found = re.match(r"([A-Za-z_]\w*)\s*:(\s|$)", lines[following])
        if found and found[1] in FIELDS:
            return -1, True
        if quote in lines[following]:
            return following, False
    return -1, False


def _is_list(key: str) -> bool:
    field = BridgeData.model_fields.get(key)
    return field is not None and key_doc(field).allowed.startswith("a list")
