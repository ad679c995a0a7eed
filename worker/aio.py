"""Structured concurrency of Python 3.11 for every Python this worker runs on."""

import sys

if sys.version_info >= (3, 11):
    from asyncio import TaskGroup, timeout, timeout_at
else:  # Python 3.10: the same names from the backport
    from taskgroup import TaskGroup, timeout, timeout_at

__all__ = ["TaskGroup", "timeout", "timeout_at"]
