"""One process at a time: several workers may share a models folder, and two that write one file would spoil it.

The system gives a lock up when its process ends, however that happens. Where a file system has no locks there are
none, and a file that two have written is found out by its checksum.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from worker.process.file_lock import lock

#: Seconds between two looks whether the other one has done.
LOOK_AGAIN_S: Final = 1.0


@asynccontextmanager
async def alone(file: Path) -> AsyncIterator[bool]:
    """Hold the lock on `file`, which stays behind; whether another process had it first."""
    descriptor = await asyncio.to_thread(_open, file)
    if descriptor is None:
        yield False
        return
    try:
        waited = False
        while not _lock(descriptor):
            waited = True
            await asyncio.sleep(LOOK_AGAIN_S)
        yield waited
    finally:
        os.close(descriptor)


def _open(file: Path) -> int | None:
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    return None


def _lock(descriptor: int) -> bool:
    try:
        return lock(descriptor)
    except OSError:
        return True
