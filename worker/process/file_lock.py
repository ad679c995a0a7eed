"""A lock on an open file, given up by the system when its process ends, however that happens.

Standard library only: the set-up uses it before anything is installed.
"""

import os
import sys

if sys.platform == "win32":
    import msvcrt

    #: A locked byte can't be read by others; this one lies behind everything that is written.
    _LOCKED_BYTE = 1 << 20

    def lock(descriptor: int) -> bool:
        """Whether the lock is this process's now. Raises OSError where the file system has no locks."""
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
        """Whether the lock is this process's now. Raises OSError where the file system has no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
