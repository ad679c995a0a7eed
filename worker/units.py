"""Sizes in bytes, those free on a disk, counts and lists in words. Standard library only: the launcher and the set-up
use it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

MIB: Final = 1024**2
GIB: Final = 1024**3


def nearest_folder(folder: Path) -> Path:
    """The folder, or the one above it that exists, where it would be made; the root of a drive that is not there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def free_bytes(folder: Path) -> int:
    """Free disk where `folder` is or will be. Raises OSError."""
    return shutil.disk_usage(nearest_folder(folder)).free


def counted(count: float, one: str) -> str:
    """A whole number and its noun: 1 job, 2 jobs."""
    number = f"{count:.0f}"
    return f"{number} {one if number == '1' else one + 's'}"


def listed(items: Sequence[object], most: int, *, separator: str = ", ") -> str:
    """The first of these, `most` of them, and how many more there are: a, b and 3 more."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(map(str, items[:most])) + more
