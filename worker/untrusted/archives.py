"""Archives of files unpacked: bounded in number, size and names before anything is written.

Only plain files and folders come out, all inside the folder that is named: no links, no devices, no name that leads out
of it, none that a system would read as another.
"""

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from worker.errors import InputRefused

#: Read and written at a time.
BLOCK_BYTES: Final = 2**20
#: Names that Windows takes for devices, whatever comes after a full stop.
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}
)
_FORBIDDEN: Final = frozenset('<>:"|?*\\') | {chr(code) for code in range(32)}


@dataclass(frozen=True)
class ArchiveBounds:
    """Most files, and most bytes of all of them together once unpacked."""

    files: int
    total_bytes: int


@dataclass(frozen=True)
class _Entry:
    """A plain file of an archive. `size`: as it is declared."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, target: Path, bounds: ArchiveBounds) -> None:
    """Unpack a .zip or .tar.gz into the empty folder `target`. One folder around everything is left out.

    Raises InputRefused for what is no archive, breaks a bound, or has a name that is not taken.
    """
    try:
        with _opened(archive) as entries:
            found = [(entry, _parts(entry.name)) for entry in _within(entries, bounds)]
            around = {parts[0] for _, parts in found if len(parts) > 1}
            skip = 1 if len(around) == 1 and all(len(parts) > 1 for _, parts in found) else 0
            left = bounds.total_bytes
            for entry, parts in found:
                place = target.joinpath(*parts[skip:])
                place.parent.mkdir(parents=True, exist_ok=True)
                left -= _write(entry, place, left)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputRefused(f"{archive.name} can't be unpacked: {error}.") from error


def _within(entries: Iterable[_Entry], bounds: ArchiveBounds) -> Iterator[_Entry]:
    count = total = 0
    for entry in entries:
        count, total = count + 1, total + entry.size
        if count > bounds.files or total > bounds.total_bytes:
            raise InputRefused(f"The archive has more than {bounds.files} files or {bounds.total_bytes} bytes.")
        yield entry


def _write(entry: _Entry, place: Path, most: int) -> int:
    """Write a file of `most` bytes at the most, whatever was declared; its size."""
    size = 0
    with entry.open() as source, place.open("xb") as copy:
        while block := source.read(BLOCK_BYTES):
            size += len(block)
            if size > most:
                raise InputRefused(f"{entry.name[:200]} is larger than the archive says.")
            copy.write(block)
    return size


def _parts(name: str) -> tuple[str, ...]:
    """The folders and the name of an entry. Raises InputRefused where it leads elsewhere."""
    path = PurePosixPath(name)
    bad = path.is_absolute() or not path.parts or not all(map(is_file_name, path.parts))
    if bad or len(name) > 1000:  # noqa: PLR2004 - longer than any system takes
        raise InputRefused(f"The archive has a file with a name that is not taken: {name[:200]!r}.")
    return path.parts


def is_file_name(part: str) -> bool:
    """Whether every system takes this for the name of a file, and for no other."""
    dots = part in {".", ".."} or part.endswith((".", " "))
    is_device = part.split(".", maxsplit=1)[0].casefold() in _DEVICES
    return not dots and not is_device and _FORBIDDEN.isdisjoint(part)


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Entry]]:
    """The plain files in an archive. Raises InputRefused for links and the like."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield _zip_entries(zipped)
    else:
        with tarfile.open(archive) as tarred:
            yield _tar_entries(tarred)


def _zip_entries(zipped: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in zipped.infolist():
        kind = info.external_attr >> 28
        if info.is_dir():
            continue
        if kind not in {0, 8}:
            raise InputRefused(f"The archive has {info.filename[:200]!r}, which is no plain file.")
        yield _Entry(info.filename, info.file_size, lambda info=info: zipped.open(info))  # type: ignore[misc]


def _tar_entries(tarred: tarfile.TarFile) -> Iterator[_Entry]:
    for info in tarred:
        if info.isdir():
            continue
        if not info.isfile():
            raise InputRefused(f"The archive has {info.name[:200]!r}, which is no plain file.")

        def opened(info: tarfile.TarInfo = info) -> IO[bytes]:
            file = tarred.extractfile(info)
            assert file is not None
            return file

        yield _Entry(info.name, info.size, opened)


def copy_tree(source: Path, target: Path, bounds: ArchiveBounds, *, left_out: Callable[[Path], bool]) -> None:
    """Copy a folder within the same bounds; `left_out` decides on paths relative to it. Links are followed to files
    only, so that a folder of models that is linked in is not copied. Raises InputRefused, OSError.
    """
    left_files, left_bytes = bounds.files, bounds.total_bytes
    waiting = [source]
    while waiting:
        folder = waiting.pop()
        (target / folder.relative_to(source)).mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if left_out(path.relative_to(source)):
                continue
            if path.is_dir():
                if not path.is_symlink():
                    waiting.append(path)
            elif path.is_file():
                left_files, left_bytes = left_files - 1, left_bytes - path.stat().st_size
                if left_files < 0 or left_bytes < 0:
                    raise InputRefused(f"{source} has more than {bounds.files} files or {bounds.total_bytes} bytes.")
                shutil.copy2(path, target / path.relative_to(source))
