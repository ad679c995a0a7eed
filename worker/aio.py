"""Structured concurrency of Python 3.11 for every Python this worker runs on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

if sys.version_info >= (3, 11):
    from asyncio import TaskGroup, timeout, timeout_at
else:  # Python 3.10: the same names from the backports
    from exceptiongroup import BaseExceptionGroup
    from taskgroup import TaskGroup, timeout, timeout_at

__all__ = ["TaskGroup", "timeout", "timeout_at", "ungrouped"]


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the first error of a task group by itself: for callers who care what happened, not in which task."""
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group
