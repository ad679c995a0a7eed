"""Checksums of model files, kept in side files.

A side file is `<stem>.sha256` beside the model with the line `<hash> *<name>`, as reGen writes it. It is valid while
it is newer than the model and names it. Files in folders that are only read have theirs in a folder of the own tree.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from worker.file_facts import sha256_of
from worker.models.catalog.schemas import read_sha256

#: Below the model root: checksums of files in folders that are only read.
FOREIGN_HASHES: Final = "horde_model_reference/hashes"


def path_digest(path: Path) -> str:
    """The checksum of a path itself: a file name that stands for it, in hexadecimal digits."""
    return hashlib.sha256(os.fsencode(path.absolute())).hexdigest()


@dataclass(frozen=True)
class HashStore:
    """Keeps checksums beside files below `root`, and those of other files in a folder of `root`."""

    root: Path

    def side_file(self, path: Path) -> Path:
        if path.is_relative_to(self.root):
            return path.with_suffix(".sha256")
        return self.root / FOREIGN_HASHES / f"{path_digest(path)[:32]}.sha256"

    def known(self, path: Path) -> str | None:
        """The checksum that was kept; None when there is none or the file has changed since."""
        side = self.side_file(path)
        try:
            if side.stat().st_mtime_ns < path.stat().st_mtime_ns:
                return None
            digest, _, name = side.read_text("utf-8").strip().partition(" ")
        except (OSError, UnicodeDecodeError):
            return None
        # Two models of the same stem share the side file; it belongs to the one it names.
        return read_sha256(digest) if name.strip().removeprefix("*") == path.name else None

    def keep(self, path: Path, sha256: str) -> None:
        """Keep a checksum. Where that is not possible it will have to be computed again."""
        side = self.side_file(path)
        try:
            side.parent.mkdir(parents=True, exist_ok=True)
            side.write_text(f"{sha256} *{path.name}", "utf-8")
        except OSError as error:
            logger.bind(action="checksum_not_kept").debug("The checksum of {} can't be kept: {}", path, error)

    def compute(self, path: Path) -> str:
        """The file's checksum, kept or computed; takes minutes for large files. Raises OSError."""
        known = self.known(path)
        if known:
            return known
        sha256 = sha256_of(path).hex()
        self.keep(path, sha256)
        return sha256

    def forget(self, path: Path) -> None:
        """Drop the checksum of a file, not that of another file of the same stem."""
        side = self.side_file(path)
        try:
            if side.read_text("utf-8").strip().endswith(f"*{path.name}"):
                side.unlink()
        except (OSError, UnicodeDecodeError):
            return
