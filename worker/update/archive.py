"""A release's archive unpacked into a folder of its own: plain files and folders, within bounds, nothing beside it."""

import lzma
import re
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from worker.errors import FileBroken
from worker.update.switch import OWNERS

#: Of a whole release: bytes unpacked, files, seconds. The repository has 12 MB in 900 files.
MAX_BYTES: Final = 600 * 1024**2
MOST_FILES: Final = 20_000
LONGEST_S: Final = 120.0
_PIECE: Final = 1024**2
#: Characters that Windows has no file names with, and control characters.
_BAD: Final = re.compile(r'[<>:"|?*\\\x00-\x1f]')
_RESERVED: Final = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)

#: Path inside the archive, whether it may be executed, how to read it.
_Entry = tuple[str, bool, Callable[[], IO[bytes] | None]]


def unpack(archive: Path, target: Path) -> list[str]:
    """Unpack into `target`, which is made; the folder that release archives have around everything is left out.

    Returns the paths of the files. Raises FileBroken for what is no such archive or leads outside, OSError.
    """
    target.mkdir(parents=True)
    try:
        return _write_all(_entries(archive), target)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise FileBroken(f"The release can't be unpacked: {error}.") from error
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno is None:  # a name twice; gzip's own errors
            raise FileBroken(f"The release can't be unpacked: {error}.") from error
        raise


def _write_all(entries: Iterator[_Entry], target: Path) -> list[str]:
    written: list[str] = []
    total, deadline = 0, time.monotonic() + LONGEST_S
    for name, executable, reader in entries:
        parts = _parts(name)
        if not parts:
            continue
        source = reader()
        if len(written) >= MOST_FILES or source is None:
            raise FileBroken(f"The release has more than {MOST_FILES} files, or one that can't be read.")
        file = target.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        with source, file.open("xb") as stream:
            while piece := source.read(_PIECE):
                total += len(piece)
                if total > MAX_BYTES or time.monotonic() > deadline:
                    raise FileBroken(f"The release unpacks to more than {MAX_BYTES} bytes, or takes too long.")
                stream.write(piece)
        if executable:
            file.chmod(0o755)
        written.append("/".join(parts))
    return written


def _parts(name: str) -> tuple[str, ...]:
    """Below the archive's one folder. Raises FileBroken for a path that leads anywhere else."""
    path = PurePosixPath(name)
    odd = name.startswith("/") or any(part == ".." or _BAD.search(part) or _RESERVED.match(part) for part in path.parts)
    if odd or any(part != part.rstrip(". ") for part in path.parts):
        raise FileBroken(f"The release has a path that leads outside of it: {name[:100]!r}.")
    inside = path.parts[1:]
    if inside and inside[0] in OWNERS:
        raise FileBroken(f"The release would write {inside[0]}, which is the owner's.")
    return inside


def _entries(archive: Path) -> Iterator[_Entry]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as content:
            for entry in content.infolist():
                mode = entry.external_attr >> 16
                if stat.S_ISLNK(mode):
                    raise FileBroken(f"The release has a link: {entry.filename[:100]!r}.")
                if not entry.is_dir():
                    yield entry.filename, bool(mode & 0o100), lambda entry=entry: content.open(entry)  # type: ignore[misc]
        return
    with tarfile.open(archive, "r:*") as packed:
        for member in packed:
            if member.isdir():
                continue
            if not member.isreg():
                raise FileBroken(f"The release has a link or a device: {member.name[:100]!r}.")
            yield member.name, bool(member.mode & 0o100), lambda member=member: packed.extractfile(member)  # type: ignore[misc]
