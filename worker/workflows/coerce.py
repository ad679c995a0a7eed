"""Values of a payload as the types that a request needs: clamped, the default for what makes no sense, never an error.

Each function takes any JSON value, because the Horde's contract with its workers is to clamp and not to reject.
"""

import math
from collections.abc import Mapping
from typing import Any

#: More entries than any list of a payload has.
MAX_ENTRIES = 1000
#: Texts that mean no where a truth value is expected.
FALSE_WORDS = frozenset({"", "0", "false", "no", "off", "none", "null"})


def whole(value: Any, default: int, low: int, high: int) -> int:
    """An integer within low..high; fractions are cut off."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return default
    return min(max(number, low), high)


def multiple(value: Any, default: int, low: int, high: int, *, of: int) -> int:
    """An integer within low..high, rounded up to a multiple of `of`."""
    # The rounding comes before the bounds, so that neither bound is left by it.
    number = whole(value, default, -(2**63), 2**63)
    return min(max(-(-number // of) * of, low), high)


def number(value: Any, default: float, low: float, high: float) -> float:
    """A finite float within low..high."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return default
    return default if math.isnan(result) else min(max(result, low), high)


def flag(value: Any) -> bool:
    """A truth value; the words for no count as no."""
    match value:
        case str():
            return value.strip().lower() not in FALSE_WORDS
        case _:
            return bool(value)


def text(value: Any) -> str:
    """A string that every JSON and UTF-8 writer takes; empty for nothing, and for what is neither text nor number."""
    if not isinstance(value, str | int | float):
        return ""
    try:
        return str(value).encode("utf-8", "replace").decode("utf-8")
    except ValueError:
        return ""  # a number with more digits than Python writes


def entries(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in a list of mappings, among the first MAX_ENTRIES; whatever else is in it is left out."""
    first = value[:MAX_ENTRIES] if isinstance(value, list | tuple) else ()
    return [entry for entry in first if isinstance(entry, Mapping)]
