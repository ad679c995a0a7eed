"""What can be asked of a file. Standard library only."""

import hashlib
import os
from pathlib import Path

#: Read at once while hashing: so much that the disk is the bottleneck, not Python.
BLOCK_BYTES = 4 * 2**20


def stamp_of(file: Path) -> tuple[int, int] | None:
    """Size and time of change, by which a file is known to be another than at the last look; None where it is not."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def end_of(file: Path, most_bytes: int, *, start: int = 0) -> bytes:
    """The last bytes of a file, none before `start`; that does not count in a file that is shorter by now.

    Raises OSError.
    """
    with file.open("rb") as opened:
        end = opened.seek(0, os.SEEK_END)
        opened.seek(max(start if start <= end else 0, end - most_bytes))
        return opened.read(most_bytes)


def sha256_of(file: Path) -> bytes:
    """The digest; of a large file it takes minutes. Raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            digest.update(block)
    return digest.digest()
