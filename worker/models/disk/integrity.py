"""Whether a file is whole and the right one: checksums with side files, and a cheap look at safetensors.

A side file is `<stem>.sha256` beside the model with the line `<hash> *<name>`, as reGen writes it; it counts while
it is newer than the model and names it. Files in folders that are not ours to write get theirs in a folder of the
worker's own tree.
"""

import hashlib
import json
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from worker.models.catalog.schemas import read_sha256

#: Bytes read at once while hashing: large enough that the disk, not Python, is what takes time.
BLOCK_BYTES: Final = 4 * 1024 * 1024
#: The safetensors format allows no larger header.
MAX_HEADER_BYTES: Final = 100_000_000
#: Below the model root: checksums of files in read-only trees.
FOREIGN_HASHES: Final = "horde_model_reference/hashes"


@dataclass(frozen=True)
class HashStore:
    """Where checksums are kept: beside files below `root`, else in a folder of `root`."""

    root: Path

    def side_file(self, path: Path) -> Path:
        if path.is_relative_to(self.root):
            return path.with_suffix(".sha256")
        name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
        return self.root / FOREIGN_HASHES / f"{name[:32]}.sha256"

    def known(self, path: Path) -> str | None:
        """The checksum on record, None when there is none or the file has changed since."""
        side = self.side_file(path)
        try:
            if side.stat().st_mtime_ns < path.stat().st_mtime_ns:
                return None
            digest, _, name = side.read_text("utf-8").strip().partition(" ")
        except (OSError, UnicodeDecodeError):
            return None
        # Two models may share a stem, and then they share the side file, which is of the one it names.
        return read_sha256(digest) if name.strip().removeprefix("*") == path.name else None

    def keep(self, path: Path, sha256: str) -> None:
        """Put a checksum on record. Where that is not possible it will be computed again, which is all that is lost."""
        side = self.side_file(path)
        try:
            side.parent.mkdir(parents=True, exist_ok=True)
            side.write_text(f"{sha256} *{path.name}", "utf-8")
        except OSError as error:
            logger.bind(action="checksum_not_kept").debug("The checksum of {} can't be kept: {}", path, error)

    def compute(self, path: Path) -> str:
        """The file's checksum, from the record or the file itself; minutes for large ones. Raises OSError."""
        known = self.known(path)
        if known:
            return known
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        sha256 = digest.hexdigest()
        self.keep(path, sha256)
        return sha256

    def forget(self, path: Path) -> None:
        """Drop the record of a file that is gone, not that of another of the same stem."""
        side = self.side_file(path)
        try:
            if side.read_text("utf-8").strip().endswith(f"*{path.name}"):
                side.unlink()
        except (OSError, UnicodeDecodeError):
            return


def find_damage(path: Path, *, suffix: str = "") -> str:
    """What is wrong with a file, as far as a look at its ends tells: "" for nothing. Reads at most its header.

    `suffix` tells the format of a file that has not got its final name yet.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            return "it is empty"
        if (suffix or path.suffix).casefold() in {".safetensors", ".sft"}:
            return _safetensors_damage(path, size)
        return _archive_damage(path)
    except OSError as error:
        return f"it can't be read: {error.strerror or error}"


def _safetensors_damage(path: Path, size: int) -> str:
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:  # noqa: PLR2004 - a safetensors file starts with eight bytes of header length
            return "it is too short for a safetensors file"
        (length,) = struct.unpack("<Q", start)
        if length > MAX_HEADER_BYTES:
            return "it is no safetensors file"
        if 8 + length > size:
            return f"it is cut off: {size} bytes, the header alone has {8 + length}"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return "its safetensors header makes no sense"
    if expected != size:
        return f"it is {'cut off' if size < expected else 'too long'}: {size} bytes instead of {expected}"
    return ""


def _archive_damage(path: Path) -> str:
    """PyTorch's own files are zip archives, whose directory is at the very end."""
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    return "it is cut off: the end of its archive is missing" if is_archive and not zipfile.is_zipfile(path) else ""
