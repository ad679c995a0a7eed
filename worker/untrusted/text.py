"""Foreign text made safe to show: on a terminal, in a log, on a page.

A prompt, a name or an error text of somebody else may hold escape sequences that rewrite the screen or the clipboard,
line breaks that forge a log line, and marks that turn or hide what follows. Here each of them becomes visible, and
harmless. Use `visible` where one field becomes part of a line, `visible_lines` at a sink for whole messages.
"""

import re
from typing import Final

#: Characters of a foreign text that are shown as a rule.
LONGEST_QUOTE: Final = 400
#: Marks on one letter that are shown; more of them draw over the lines above and below.
MOST_MARKS: Final = 3
#: What begins each further line of a message, so that none looks like the beginning of a record.
CONTINUATION: Final = "    "

#: Printable by Unicode's classes, and yet nothing to be seen: fillers, selectors, joiners.
_INVISIBLE: Final = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
)
#: Combining marks as they are used to flood lines.
_MARK: Final = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_SUSPECT: Final = re.compile(rf"[{_INVISIBLE}]|(?<=[{_MARK}]{{{MOST_MARKS}}})[{_MARK}]")
_COLOUR: Final = re.compile(r"\x1b\[[\d;]{0,20}m")
_SHORT_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

#: scheme, user part, host and path, then what is secret
_LINK: Final = re.compile(
    r"(?P<scheme>https?://)(?:[^\s/?#@\"']*@)?(?P<place>[^\s?#\"'<>]*)(?P<secret>[?#][^\s\"'<>]*)?", re.IGNORECASE
)


def visible(text: str, *, longest: int | None = None) -> str:
    """The text on one line, with everything that can't be seen written as its code, in the way of Python.

    Blanks of all kinds become a plain one. `longest`: characters of the result, then `…`.
    """
    if longest is not None and len(text) > longest:
        return visible(text[:longest])[:longest] + "…"
    if text.isascii() and text.isprintable():
        return text
    shown = text if text.isprintable() else "".join(map(_shown, text))
    return _SUSPECT.sub(lambda found: _escaped(found[0]), shown)


def visible_lines(text: str) -> str:
    """The text with its line breaks kept and each further line indented; everything else as in `visible`."""
    if "\n" not in text:
        return visible(text)
    return f"\n{CONTINUATION}".join(visible(line.removesuffix("\r")) for line in text.split("\n"))


def quote(text: str, *, longest: int = LONGEST_QUOTE) -> str:
    """Somebody else's words for a sentence of ours: one line, white space folded, no secrets of links."""
    # Cut before anything else: the text may be as long as its sender likes.
    return visible(redact_links(" ".join(text[: longest * 8].split())), longest=longest)


def in_brief(text: str) -> str:
    """The first and the last line of somebody else's words, as a `quote`: of a log the last line says the most."""
    lines = [line for line in text[: LONGEST_QUOTE * 40].splitlines() if line.strip()]
    if len(lines) < 3:  # noqa: PLR2004 - nothing between them
        return quote(text)
    first, last = (quote(line, longest=LONGEST_QUOTE // 2) for line in (lines[0], lines[-1]))
    return f"{first} … {last}"


def redact_links(text: str) -> str:
    """The text with every URL in it cut before its query and without a user part: both may be secret."""
    return _LINK.sub(lambda link: f"{link['scheme']}{link['place']}{'?…' if link['secret'] else ''}", text)


def without_colours(line: str) -> str:
    """A line of a program's log without the codes that set colours on a terminal."""
    return _COLOUR.sub("", line)


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    # Beside line and paragraph separators, what is space and no control is a blank of some width.
    if character.isspace() and character > "\x85" and character not in "\u2028\u2029":
        return " "
    return _escaped(character)


def _escaped(character: str) -> str:
    if short := _SHORT_ESCAPES.get(character):
        return short
    code = ord(character)
    if code <= 0xFF:  # noqa: PLR2004 - what Python writes as \x..
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the basic plane
