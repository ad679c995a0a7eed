"""From chosen models to files on disk: what is lacking, how much that is, and fetching it model by model.

Models come in the owner's order, so that the first one can be served while the others are still on their way. One
that can't be had costs only itself, and one from a slow host holds up the others for a while only.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from loguru import logger

from worker.aio import TaskGroup, ungrouped
from worker.errors import WorkerError
from worker.models.catalog.records import ModelFile, ModelRecord
from worker.models.disk.store import MissingFile, Store
from worker.models.download.downloader import Download, Downloader, estimate_bytes
from worker.models.download.transfer import DownloadFailed

GIB: Final = 1024**3
#: Seconds a model is fetched alone, so that the first one is served as early as can be.
PATIENCE_S: Final = 900.0


@dataclass(frozen=True)
class Plan:
    """What has to be fetched. `unknown_files` have a size nobody tells beforehand."""

    downloads: tuple[Download, ...]
    known_bytes: int
    unknown_files: int
    free_bytes: int

    def __str__(self) -> str:
        if not self.downloads:
            return "nothing to download"
        count, total, free = len(self.downloads), self.known_bytes / GIB, self.free_bytes / GIB
        files = f"{count} file{'s' if count > 1 else ''}"
        if self.unknown_files == count:
            return f"{files} of unknown size to download, {free:.1f} GiB free"
        more = f" and {self.unknown_files} of unknown size" if self.unknown_files else ""
        return f"{files}, {total:.1f} GiB{more} to download, {free:.1f} GiB free"


def plan_supply(store: Store, records: Iterable[ModelRecord]) -> Plan:
    """Everything the models lack and that has an address, each file once."""
    downloads: dict[str, Download] = {}
    for record in records:
        for lack in store.missing(record):
            with contextlib.suppress(DownloadFailed):
                download = _as_download(store, record, lack)
                downloads.setdefault(str(download.target), download)
    known, unknown = estimate_bytes(downloads.values())
    return Plan(tuple(downloads.values()), known, unknown, store.free_bytes())


async def supply(
    store: Store,
    records: Iterable[ModelRecord],
    downloader: Downloader,
    *,
    on_ready: Callable[[ModelRecord], None],
    on_failed: Callable[[ModelRecord, WorkerError], None],
) -> None:
    """Make every model whole, in order, and tell of each as soon as it is, or why it can't be.

    One that takes longer than `PATIENCE_S` no longer has the line to itself: the next one comes beside it.
    """
    waiting: list[ModelRecord] = []
    for record in records:
        # What is there already must not wait for what is not.
        if store.missing(record):
            waiting.append(record)
        else:
            on_ready(record)
    with ungrouped():
        async with TaskGroup() as group:
            for record in waiting:
                fetching = group.create_task(_supply(store, record, downloader, on_ready, on_failed))
                await asyncio.wait((fetching,), timeout=PATIENCE_S)


async def _supply(
    store: Store,
    record: ModelRecord,
    downloader: Downloader,
    on_ready: Callable[[ModelRecord], None],
    on_failed: Callable[[ModelRecord, WorkerError], None],
) -> None:
    try:
        await complete(store, record, downloader)
    except WorkerError as error:
        logger.bind(action="model_unavailable", model=record.name).error("{} can't be had: {}", record.name, error)
        on_failed(record, error)
    except Exception as error:  # a defect here must not cost the other models
        logger.bind(model=record.name).exception("A defect in fetching {}", record.name)
        on_failed(record, DownloadFailed(f"a defect of this worker: {error!r}.", final=False))
    else:
        logger.bind(action="model_ready", model=record.name).info("{} is here", record.name)
        on_ready(record)


async def complete(store: Store, record: ModelRecord, downloader: Downloader) -> None:
    """Fetch what one model lacks. Raises DownloadFailed."""
    downloads = [_as_download(store, record, lack) for lack in store.missing(record)]
    results = await asyncio.gather(*(downloader.fetch(download) for download in downloads), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    if left := store.missing(record):
        raise DownloadFailed(f"{record.name} is not usable after its download: {left[0].reason}.")


async def repair(store: Store, file: ModelFile) -> bool:
    """After the engine failed to read a file: check it against its checksum, and set it aside if it is broken.

    Whether it was.

    Raises ConfigError for a broken file in a folder that is only read.
    """
    found = store.find(file)
    if found is None:
        return False
    store.hashes.forget(found.path)
    sha256 = await asyncio.to_thread(store.hashes.compute, found.path) if file.sha256 else None
    if sha256 == file.sha256 and not store.check(file):
        return False
    store.quarantine(found.path)
    return True


def fit_disk(
    store: Store, records: Iterable[ModelRecord], *, reserve_bytes: int
) -> tuple[tuple[ModelRecord, ...], Mapping[str, str]]:
    """The records whose files there is room for, taken in order, and for each of the others by name why not."""
    left = store.free_bytes() - reserve_bytes
    chosen: list[ModelRecord] = []
    refused: dict[str, str] = {}
    seen: set[Path] = set()
    for record in records:
        new = [download for download in plan_supply(store, [record]).downloads if download.target not in seen]
        needed, _ = estimate_bytes(new)
        if needed > left:
            room = max(0, left) / GIB
            refused[record.name] = (
                f"{needed / GIB:.1f} GiB are to be downloaded, the disk has {room:.1f} GiB left for it"
            )
            continue
        left -= needed
        seen |= {download.target for download in new}
        chosen.append(record)
    return tuple(chosen), MappingProxyType(refused)


def _as_download(store: Store, record: ModelRecord, lack: MissingFile) -> Download:
    file = lack.file
    if file.url is None or file.path is not None:
        raise DownloadFailed(f"{lack.reason}, and no address is known to fetch it from.")
    size = file.size or (record.size_on_disk if len(record.files) == 1 else None)
    return Download(file.url, store.target(file), file.sha256, size)
