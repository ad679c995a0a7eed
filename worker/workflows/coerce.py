"""Values as requesters send them, made usable: never an error, the default where there is no sense in a value.

The Horde's contract with its workers is to clamp, not to reject: each function takes any JSON value.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

#: Words that mean no, where a truth value came as text.
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


def flag(value: Any, *, default: bool = False) -> bool:
    """A truth value; the words for no count as no."""
    match value:
        case None:
            return default
        case str():
            return value.strip().lower() not in FALSE_WORDS
        case _:
            return bool(value)


def text(value: Any) -> str:
    """A string that every JSON and UTF-8 writer takes; empty for nothing."""
    if value is None:
        return ""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def entries(value: Any) -> Iterable[Mapping[str, Any]]:
    """The mappings in a list of mappings, whatever else is in it."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list | tuple) else []
