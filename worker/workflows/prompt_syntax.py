"""ComfyUI's prompt syntax, `(text:weight)` and `embedding:name`: what would break a text encoder is made harmless.

Requesters write prompts for many user interfaces. ComfyUI's parser raises on an `embedding:` without a name, recurses
once for each nested parenthesis, and takes any weight that float() takes, "nan" and "1e400" included.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

#: Largest weight of a text, as the Horde's API bounds the strengths of LoRAs and textual inversions.
MAX_WEIGHT = 10.0
#: ComfyUI's factor for parentheses without a weight.
IMPLICIT_FACTOR = 1.1
#: ComfyUI recurses once a level, and Python ends that near 1,000.
MAX_NESTING = 64
#: Longer prompts are cut: 20,000 characters are some 5,000 tokens, and the time and memory of attention grow with them.
MAX_PROMPT_CHARACTERS = 20_000
#: Parentheses times their depth. The parser reads each as often as it is deep; this many take some 20 ms, on the event
#: loop. A prompt of 200 emphasised words in three levels has 1,200.
MAX_PARSING = 20_000

_PARENTHESIS = re.compile(r"(?<!\\)[()]")
#: An `embedding:` where ComfyUI looks for a name and finds white space only: after a blank or the end of a line, and
#: in versions of 2026 after any white space.
_NAMELESS_EMBEDDING = re.compile(r"(?:\A|\s)embedding:(?=\s*(?:\Z|(?<=\s)embedding:))")


class Group(NamedTuple):
    """Text in parentheses. `weight`: what float() makes of `suffix`; None without one."""

    body: str
    suffix: str
    weight: float | None


def harmless(text: str) -> str:
    """The text as it is, where a text encoder takes it; else with as little changed as makes it take it.

    Weights are clamped to ±MAX_WEIGHT, parentheses beyond MAX_NESTING dropped, and so are embeddings without a name.
    """
    text = text[:MAX_PROMPT_CHARACTERS]
    if is_harmless(text):
        return text
    mended = _mended(_parsable(text), 1.0, 0)
    while not is_harmless(mended):
        # A change brought parts together that were apart.
        mended = _NAMELESS_EMBEDDING.sub("", _PARENTHESIS.sub("", mended))
    return mended


def is_harmless(text: str) -> bool:
    """No part of the text can make a text encoder raise or give numbers that are not finite."""
    # Encoders without weights (Qwen, Z-Image) look for embeddings in the text as a whole.
    return (
        len(text) <= MAX_PROMPT_CHARACTERS
        and not _NAMELESS_EMBEDDING.search(text)
        and _parsing(text) <= MAX_PARSING
        and _is_harmless(text, 1.0, 0)
    )


def _parsing(text: str) -> int:
    """How many parentheses there are, times their greatest depth."""
    number = level = depth = 0
    for number, found in enumerate(_PARENTHESIS.finditer(text), start=1):  # noqa: B007 - the last number is the count
        level += 1 if found[0] == "(" else -1
        depth = max(depth, level)
    return number * depth


def _parsable(text: str) -> str:
    """The text without parentheses that are too deep; without any where there are too many."""
    level = 0

    def kept(found: re.Match[str]) -> str:
        nonlocal level
        level += found[0] == "("
        too_deep = level > MAX_NESTING
        level -= found[0] == ")"
        return "" if too_deep else found[0]

    text = _PARENTHESIS.sub(kept, text)
    return text if _parsing(text) <= MAX_PARSING else _PARENTHESIS.sub("", text)


def _is_harmless(text: str, weight: float, nesting: int) -> bool:
    for part in _parts(text):
        group = _group(part)
        if group is None:
            if _NAMELESS_EMBEDDING.search(part):
                return False
            continue
        inner = weight * IMPLICIT_FACTOR if group.weight is None else group.weight
        if nesting == MAX_NESTING or not abs(inner) <= MAX_WEIGHT or not _is_harmless(group.body, inner, nesting + 1):
            return False
    return True


def _mended(text: str, weight: float, nesting: int) -> str:
    mended = []
    for part in _parts(text):
        group = _group(part)
        if group is None:
            mended.append(_NAMELESS_EMBEDDING.sub("", part))
            continue
        if group.weight is None and abs(weight * IMPLICIT_FACTOR) > MAX_WEIGHT:
            mended.append(_mended(group.body, weight, nesting + 1))
            continue
        inner, suffix = weight * IMPLICIT_FACTOR, group.suffix
        if group.weight is not None:
            inner = _clamped(group.weight)
            suffix = suffix if inner == group.weight else f":{inner:g}"
        body = _mended(group.body, inner, nesting + 1)
        if body.strip() or not group.body.strip():
            mended.append(f"({body}{suffix})")
    return "".join(mended)


def _clamped(weight: float) -> float:
    if weight != weight:  # noqa: PLR0124 - NaN alone differs from itself
        return 1.0
    return min(max(weight, -MAX_WEIGHT), MAX_WEIGHT)


def _parts(text: str) -> Iterator[str]:
    """What ComfyUI's parser splits a text into at the outermost parentheses; those after a backslash are plain text."""
    start = level = 0
    for found in _PARENTHESIS.finditer(text):
        if found[0] == "(":
            if level == 0 and found.start() > start:
                yield text[start : found.start()]
                start = found.start()
            level += 1
        else:
            level -= 1
            if level == 0:
                yield text[start : found.end()]
                start = found.end()
    if start < len(text):
        yield text[start:]


def _group(part: str) -> Group | None:
    """The part as a group with a weight; None for plain text."""
    if len(part) < len("()") or part[0] != "(" or part[-1] != ")" or part.endswith("\\)"):
        return None
    inner = part[1:-1]
    colon = inner.rfind(":")
    if colon > 0:
        try:
            return Group(inner[:colon], inner[colon:], float(inner[colon + 1 :]))
        except ValueError:
            pass
    return Group(inner, "", None)
