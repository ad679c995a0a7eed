"""Sizes in bytes, and counts in words."""

from typing import Final

MIB: Final = 1024**2
GIB: Final = 1024**3


def counted(count: float, one: str) -> str:
    """A whole number and its noun: 1 job, 2 jobs."""
    number = f"{count:.0f}"
    return f"{number} {one if number == '1' else one + 's'}"
