"""LoRAs and textual inversions on disk: names of fetched files, which file a job means, and which ones make room."""

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from worker.models.disk.folder_layouts import MODEL_SUFFIXES
from worker.models.disk.store import Store
from worker.models.download.part_file import SUFFIX as PART_SUFFIX
from worker.models.download.part_file import PartFile
from worker.models.loras.civitai import CivitaiFile, Kind

#: Bytes of a model's name that its file name keeps: file systems allow 255, and endings are added.
MAX_NAME_BYTES: Final = 128
#: File names (without ending) of files that were fetched for jobs, by this worker or reGen. Others belong to the
#: owner, and are never deleted.
FETCHED: Final[Mapping[Kind, re.Pattern[str]]] = {
    Kind.LORA: re.compile(r"(?P<name>.*)_(?P<version>\d+)"),
    Kind.TEXTUAL_INVERSION: re.compile(r"\d+"),
}
#: A file used within this many seconds is not deleted: a job may be about to load it.
GRACE_S: Final = 600.0
#: Seconds after which the beginning of a file, kept to be resumed, is deleted.
MAX_PART_AGE_S: Final = 24 * 3600.0

_UNSAFE = re.compile(r"[^\w .()-]+")


@dataclass(frozen=True)
class CachedFile:
    """A file that can be fetched again. `last_used_s` is on the same clock as `now_s`."""

    path: Path
    size: int
    last_used_s: float


def choose_name(store: Store, kind: Kind, file: CivitaiFile) -> str:
    """The name for a file to be fetched: the one another worker gave it if it is on disk, else from its own name.

    Reads files whose checksum is not known, so call it in a thread. Raises OSError.
    """
    if kind is Kind.TEXTUAL_INVERSION:
        return f"{file.model_id}.safetensors"
    for path in _files(store, kind):
        found = FETCHED[kind].fullmatch(path.stem)
        # An owner's own file may end in any number.
        if found and found["version"] == str(file.version_id) and store.hashes.compute(path) == file.sha256:
            return path.name
    name = _UNSAFE.sub("", file.name[:MAX_NAME_BYTES]).encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(" .")
    return f"{name}_{file.version_id}.safetensors"


def find_lora(store: Store, name: str, *, is_version: bool) -> Path | None:
    """A LoRA of the worker's own folder by its name, or by its version number if `is_version`."""
    for path in _files(store, Kind.LORA):
        found = FETCHED[Kind.LORA].fullmatch(path.stem)
        names = {path.stem} | ({found["version"] if is_version else found["name"]} if found else set())
        if name in names:
            return path
    return None


def find_textual_inversion(store: Store, name: str) -> Path | None:
    """A textual inversion of the worker's own folder by its name."""
    return next((path for path in _files(store, Kind.TEXTUAL_INVERSION) if path.stem == name), None)


def mark_used(path: Path) -> None:
    """Note that a cached file is used; file systems don't do so reliably. Its modification time stays."""
    stat = path.stat()
    os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))


def make_room(store: Store, kind: Kind, size: int, budget_bytes: int, now_s: float) -> None:
    """Delete the least recently used fetched files, so that one of `size` bytes is within the budget.

    Beginnings of files (`.part`) count like whole ones, and are deleted when they are old.
    """
    files = _cached_files(store, kind, now_s)
    outdated = [file for file in files if _is_part(file.path) and _apart_s(now_s, file.last_used_s) > MAX_PART_AGE_S]
    rest = [file for file in files if file not in outdated]
    for file in (*outdated, *choose_evictions(rest, budget_bytes, now_s, needed_bytes=size)):
        _delete(store, file.path)
        logger.bind(action="cache_evicted").info("{} was deleted to make room for others", file.path.name)


def choose_evictions(
    files: Iterable[CachedFile], budget_bytes: int, now_s: float, *, needed_bytes: int = 0, grace_s: float = GRACE_S
) -> tuple[CachedFile, ...]:
    """The least recently used files whose deletion brings the total and `needed_bytes` within the budget. Pure.

    As few as needed, in order of last use. Recently used files stay, even when the budget is exceeded.
    """
    listed = list(files)
    excess = sum(file.size for file in listed) + needed_bytes - budget_bytes
    chosen: list[CachedFile] = []
    for file in sorted(listed, key=lambda file: (file.last_used_s, str(file.path))):
        if excess <= 0:
            break
        if _apart_s(now_s, file.last_used_s) < grace_s:
            continue
        chosen.append(file)
        excess -= file.size
    return tuple(chosen)


def purge_unknown(store: Store) -> list[Path]:
    """Delete the LoRAs whose names are not those of fetched ones; returns their paths. Raises OSError."""
    unknown = [path for path in _files(store, Kind.LORA) if not FETCHED[Kind.LORA].fullmatch(path.stem)]
    for path in unknown:
        _delete(store, path)
    return unknown


def _cached_files(store: Store, kind: Kind, now_s: float) -> list[CachedFile]:
    """All files that were fetched for jobs, whole or begun, with the time of their last use."""
    files: list[CachedFile] = []
    for path in sorted((store.root / kind.folder).glob("*")):
        whole = path.with_name(path.name.removesuffix(PART_SUFFIX))
        if whole.suffix.casefold() in MODEL_SUFFIXES and FETCHED[kind].fullmatch(whole.stem) and path.is_file():
            stat = path.stat()
            moments = (stat.st_mtime,) if _is_part(path) else (stat.st_atime, stat.st_mtime)
            used_s = min(moments, key=lambda moment: _apart_s(now_s, moment))
            files.append(CachedFile(path, stat.st_size, used_s))
    return files


def _apart_s(now_s: float, moment_s: float) -> float:
    """A date in the future is of a clock that was wrong, then or now, and is no use that has just been."""
    return abs(now_s - moment_s)


def _is_part(path: Path) -> bool:
    return path.suffix == PART_SUFFIX


def _delete(store: Store, path: Path) -> None:
    if _is_part(path):
        PartFile(path.with_name(path.name.removesuffix(PART_SUFFIX))).discard()
    else:
        store.hashes.forget(path)
        path.unlink(missing_ok=True)


def _files(store: Store, kind: Kind) -> list[Path]:
    folder = store.root / kind.folder
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in MODEL_SUFFIXES and path.is_file())
