"""The closed set of functions that a manifest may put between a field and an input."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.workflows import qr


@dataclass(frozen=True)
class Transform:
    """A pure function between two plain types."""

    takes: type
    gives: type
    apply: Callable[[Any], Any]


def share_of(part: float) -> Transform:
    """This part of a whole number, at least 1: the steps of one of several samplers."""
    return Transform(int, int, lambda whole: max(1, round(whole * part)))


def one_of(if_true: Any, if_false: Any) -> Transform:
    """One of two values of the same type."""
    return Transform(bool, type(if_true), lambda holds: if_true if holds else if_false)


TRANSFORMS = {
    "negate": Transform(int, int, operator.neg),
    "qr_settled_step": Transform(int, int, qr.settled_step),
    "qr_patterns_step": Transform(int, int, qr.patterns_step),
    "qr_patterns_strength": Transform(float, float, qr.patterns_strength),
    "qr_whole_strength": Transform(float, float, qr.whole_strength),
}
