"""Locks between processes, on files. The system releases a lock when its process ends, however it ends.

Standard library only: the set-up uses it before anything is installed.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

#: Seconds between two tries to get a lock that another process holds.
RETRY_S: Final = 1.0

if sys.platform == "win32":
    import msvcrt

    #: A locked byte can't be read by others; this one lies behind everything that is written.
    _LOCKED_BYTE = 1 << 20

    def lock(descriptor: int) -> bool:
        """Whether this process has the lock now. Raises OSError where the file system has no locks."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def lock(descriptor: int) -> bool:
        """Whether this process has the lock now. Raises OSError where the file system has no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def open_to_lock(file: Path) -> int:
    """The descriptor of a file to be locked, made with its folder where there is none. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT, 0o644)


@asynccontextmanager
async def locked(file: Path) -> AsyncIterator[bool]:
    """Hold the lock on `file`, waiting for it; yields whether another process had it first. The file stays.

    Where the file system has no locks, or `file` can't be opened, nothing is locked: what two processes spoil by
    writing at the same time has to be noticed by other means, such as a checksum.
    """
    descriptor = await asyncio.to_thread(_open, file)
    if descriptor is None:
        yield False
        return
    try:
        waited = False
        while not lock_if_possible(descriptor):
            waited = True
            await asyncio.sleep(RETRY_S)
        yield waited
    finally:
        os.close(descriptor)


@contextmanager
def in_use(users: Path) -> Iterator[None]:
    """Say in the folder `users` that this process uses something, until the block or the process ends.

    Nothing is said where that can't be written.
    """
    descriptor = None
    file = users / f"{os.getpid()}.lock"
    with contextlib.suppress(OSError):
        descriptor = open_to_lock(file)
        lock(descriptor)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                file.unlink()


def is_in_use(users: Path) -> bool:
    """Whether a process has said so there and runs. What killed ones left behind is removed."""
    for file in users.glob("*.lock"):
        try:
            descriptor = os.open(file, os.O_RDWR)
        except OSError:
            continue
        try:
            if not lock(descriptor):
                return True
        except OSError:
            continue
        finally:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            file.unlink()
    return False


def _open(file: Path) -> int | None:
    with contextlib.suppress(OSError):
        return open_to_lock(file)
    return None


def lock_if_possible(descriptor: int) -> bool:
    """Whether this process has the lock now, or the file system has no locks."""
    try:
        return lock(descriptor)
    except OSError:
        return True
