"""JSON from outside, bounded in bytes, values and depth before anything is built from it.

One malformed document must cost its sender, not the worker: `read_json` raises InputRefused and nothing else. Python's
own parser builds values first and looks later, holds the interpreter while it does so, and lets NaN, 10^400 and halves
of characters through.

What is lenient, since the other end is lenient too: of two equal keys the last one counts, a byte order mark is
skipped, a number outside the range of a double (NaN, Infinity, 1e999, 10^400) reads as None, and half of a surrogate
pair reads as U+FFFD. What is not JSON at all is refused: other encodings than UTF-8, single quotes, trailing commas.
"""

import asyncio
import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from json.decoder import py_scanstring  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, Final

from worker.errors import InputRefused

#: Documents up to these sizes are parsed by Python's C parser, which holds the interpreter: 50 ms at most for what is
#: slowest to parse, texts of nothing but escapes (measured on one slow core).
QUICK_BYTES: Final = 1024 * 1024
QUICK_VALUES: Final = 20_000
#: Documents from here on are better parsed in a thread, and counted token by token.
LARGE_BYTES: Final = QUICK_BYTES // 4
#: Digits of the longest integer that a double can still hold (1.8e308).
MOST_DIGITS: Final = 309

#: Bytes that are looked at in one go, since nothing else runs meanwhile. A stretch of more than twice as many without
#: a comma, a bracket, a quote or a backslash is refused: Python's parser takes it in one go.
STRETCH_BYTES: Final = 1024 * 1024

#: Parts of one text, of a thousand escapes or STRETCH_BYTES each. Python's parser joins what is between escapes in one
#: go.
MOST_PARTS: Final = 2000

_TOKEN: Final = re.compile(rb'[\[\]{},"]')
_TOKEN_OR_ESCAPE: Final = re.compile(rb'[\[\]{},"\\]')
#: A text up to its end, its thousandth escape or the end of what is looked at.
_TEXT: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*){0,1000}', re.DOTALL)
_OPENING, _CLOSING = frozenset(b"[{"), frozenset(b"]}")
_COMMA, _QUOTE = ord(","), ord('"')
_DEPTH_STEPS: Final = {**dict.fromkeys(_OPENING, 1), **dict.fromkeys(_CLOSING, -1)}
_NO_BRACKETS: Final = bytes(set(range(256)) - _DEPTH_STEPS.keys())
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
#: Characters, as STRETCH_BYTES.
_MENDED_AT_ONCE: Final = 50_000
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]")


@dataclass(frozen=True)
class JsonBounds:
    """What a document may have at most. `max_values`: entries of all lists and objects; `max_depth`: brackets.

    `long_stretches`: for documents of the owner's, which nobody else waits for.
    """

    max_bytes: int = 4 * 1024 * 1024
    max_values: int = 200_000
    max_depth: int = 64
    long_stretches: bool = False


DEFAULT_BOUNDS: Final = JsonBounds()


def read_json(data: bytes | str, bounds: JsonBounds = DEFAULT_BOUNDS) -> Any:
    """Parse one JSON document into dicts, lists, strings, numbers, booleans and None. Raises InputRefused.

    Quick for small documents. Large ones take a second per 100,000 values and let other threads run meanwhile: call
    this in a thread, or `read_json_aside` from a coroutine.
    """
    encoded = _encoded(data)
    if len(encoded) > bounds.max_bytes:
        raise InputRefused(f"The JSON has {len(encoded)} bytes, more than {bounds.max_bytes}.")
    if len(encoded) > QUICK_BYTES and not bounds.long_stretches:
        _refuse_long_stretches(encoded)
    values = (_count_at_once if len(encoded) <= LARGE_BYTES else _count_values)(encoded, bounds)
    is_quick = len(encoded) <= QUICK_BYTES and values <= QUICK_VALUES
    try:
        text = encoded.decode("utf-8-sig")
        found = (_QUICK if is_quick else _PATIENT).decode(text)
    except UnicodeDecodeError as error:
        raise InputRefused(f"The text is not UTF-8 at byte {error.start}.") from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise InputRefused(f"This is no JSON: {error}.") from error
    return _mended(found) if _SURROGATE_ESCAPE.search(encoded) else found


async def read_json_aside(data: bytes | str, bounds: JsonBounds = DEFAULT_BOUNDS) -> Any:
    """`read_json` for coroutines: small documents at once, large ones in a thread. Raises InputRefused."""
    if len(data) <= LARGE_BYTES:
        return read_json(data, bounds)
    return await asyncio.to_thread(read_json, data, bounds)


def read_json_file(path: Path, bounds: JsonBounds = DEFAULT_BOUNDS) -> Any:
    """`read_json` of a file, of which no more is read than the bound. Raises InputRefused, OSError."""
    with path.open("rb") as file:
        return read_json(file.read(bounds.max_bytes + 1), bounds)


def read_json_object(data: bytes | str, bounds: JsonBounds = DEFAULT_BOUNDS) -> dict[str, Any]:
    """`read_json` of a document that is an object. Raises InputRefused for everything else."""
    found = read_json(data, bounds)
    if not isinstance(found, dict):
        raise InputRefused(f"The JSON is {_KINDS.get(type(found), 'a value')} instead of an object.")
    return found


_KINDS: Final = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}


def _encoded(data: bytes | str) -> bytes:
    if not isinstance(data, str):
        return bytes(data)
    try:
        return data.encode()
    except UnicodeEncodeError as error:
        raise InputRefused(f"The text has half of a character at {error.start}.") from error


def _count_at_once(data: bytes, bounds: JsonBounds) -> int:
    """`_count_values` ten times as fast, while nothing else runs."""
    parts = data.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
    if len(parts) % 2 == 0:
        raise InputRefused("The JSON has a text without an end.")
    outside = b"".join(parts[::2])
    values = 1 + sum(map(outside.count, (b",", b"[", b"{")))
    if len(parts) // 2 > 2 * values:  # a key and a value each, if it is JSON
        raise InputRefused("This is no JSON: there are texts with nothing between them.")
    steps = map(_DEPTH_STEPS.__getitem__, outside.translate(None, _NO_BRACKETS))
    if max(itertools.accumulate(steps), default=0) > bounds.max_depth:
        raise InputRefused(f"The JSON is nested more than {bounds.max_depth} deep.")
    if values > bounds.max_values:
        raise InputRefused(f"The JSON has more than {bounds.max_values} values.")
    return values


def _count_values(data: bytes, bounds: JsonBounds) -> int:
    """An upper bound of the document's values. Raises InputRefused as soon as a bound is passed."""
    depth, values, texts, position = 0, 1, 0, 0
    while token := _TOKEN.search(data, position):
        first, position = data[token.start()], token.end()
        if first == _QUOTE:
            position = _end_of_text(data, position)
            texts += 1
            if texts > 2 * values:  # a key and a value each, if it is JSON
                raise InputRefused("This is no JSON: there are texts with nothing between them.")
            continue
        depth += (first in _OPENING) - (first in _CLOSING)
        values += first in _OPENING or first == _COMMA
        if depth > bounds.max_depth:
            raise InputRefused(f"The JSON is nested more than {bounds.max_depth} deep.")
        if values > bounds.max_values:
            raise InputRefused(f"The JSON has more than {bounds.max_values} values.")
    return values


def _end_of_text(data: bytes, position: int) -> int:
    """Where the document goes on after a text that begins at `position`. Raises InputRefused."""
    for _ in range(MOST_PARTS):
        if data[position : position + 1] == b'"':
            return position + 1
        found = _TEXT.match(data, position, position + STRETCH_BYTES)
        if not found or found.end() == position:
            raise InputRefused("The JSON has a text without an end.")
        position = found.end()
    raise InputRefused(f"The JSON has a text of more than {MOST_PARTS} thousand escapes.")


def _refuse_long_stretches(data: bytes) -> None:
    """Raise InputRefused for twice STRETCH_BYTES without a token; for half of that nothing is raised."""
    for start in range(0, len(data) - STRETCH_BYTES + 1, STRETCH_BYTES):
        if not _TOKEN_OR_ESCAPE.search(data, start, start + STRETCH_BYTES):
            raise InputRefused(f"The JSON has a stretch of more than {STRETCH_BYTES} bytes that nothing divides.")


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int | None:
    if len(text) < MOST_DIGITS:
        return int(text)
    return int(text) if len(text) <= MOST_DIGITS + 1 and _finite(text) is not None else None


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_float=_finite, parse_int=_whole, parse_constant=lambda _: None)


def _patient_decoder() -> json.JSONDecoder:
    """Written in Python, so that other threads get their turns while a large document is parsed."""
    decoder = _decoder()
    decoder.parse_string = py_scanstring  # type: ignore[attr-defined]
    make: Callable[[json.JSONDecoder], Any] = py_make_scanner
    decoder.scan_once = make(decoder)  # type: ignore[attr-defined]
    return decoder


_QUICK: Final = _decoder()
_PATIENT: Final = _patient_decoder()


def _mended(value: Any) -> Any:
    """The value with every half of a surrogate pair replaced. Recursion is bounded by `max_depth`."""
    if isinstance(value, str):
        return "".join(
            _SURROGATE.sub("\ufffd", value[start : start + _MENDED_AT_ONCE])
            for start in range(0, len(value), _MENDED_AT_ONCE)
        )
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value
