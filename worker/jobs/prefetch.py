"""Read the files of a popped job's model into the page cache while another job renders.

The engine then loads them from memory. Nothing waits for this and nothing depends on it.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from loguru import logger

from worker.engine.pool import EnginePool
from worker.jobs.inputs import ModelSource
from worker.jobs.job import JobEvent, JobEvents, Stage
from worker.models.catalog.records import Purpose
from worker.models.disk.folder_layouts import KEY_OF_PURPOSE
from worker.system_memory import system_memory

#: Read at once; between two chunks it can be stopped.
CHUNK_BYTES = 32 * 1024**2
#: Memory that stays free for everything else.
MEMORY_KEPT_BYTES = 2 * 1024**3


class Prefetch:
    """Reads ahead the models of popped jobs: one at a time, one more waits, further ones are skipped."""

    def __init__(self, models: ModelSource, pool: EnginePool) -> None:
        self._models = models
        self._pool = pool
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._under_way: dict[str, asyncio.Future[int]] = {}

    @asynccontextmanager
    async def running(self, events: JobEvents) -> AsyncIterator["Prefetch"]:
        """Follow the job events within the block; stop reading on exit."""
        events.subscribe(self.note)
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)

    def note(self, event: JobEvent) -> None:
        name = event.job.pop.model
        if event.stage is not Stage.POPPED or self._stop.is_set() or name in self._under_way:
            return
        if len(self._under_way) > 1 or any(name in slot.models for slot in self._pool.ready_slots):
            return
        model = self._models.model(name)
        paths = find_files(model.files, self._pool.slots[0].settings.model_paths) if model else ()
        if not paths:
            return
        reading = asyncio.get_running_loop().run_in_executor(self._thread, read_ahead, paths, self._stop)
        self._under_way[name] = reading
        reading.add_done_callback(lambda done: self._done(name, done))

    def _done(self, name: str, reading: "asyncio.Future[int]") -> None:
        self._under_way.pop(name, None)
        if not reading.cancelled():
            logger.debug("Read ahead: {}, {:.1f} MiB", name, reading.result() / 1024**2)


def find_files(files: Mapping[str, str], model_paths: Mapping[str, Mapping[str, str]]) -> tuple[Path, ...]:
    """The paths of a model's files (purpose → name), found in ComfyUI's search order."""
    found: list[Path] = []
    for purpose, name in files.items():
        key = KEY_OF_PURPOSE[Purpose(purpose)]
        folders = [folder for section in model_paths.values() for folder in section.get(key, "").splitlines() if folder]
        found += [path for folder in folders if (path := Path(folder) / name).is_file()][:1]
    return tuple(found)


def read_ahead(paths: Collection[Path], stop: threading.Event) -> int:
    """Read files into the page cache while memory allows; return the bytes requested. Blocks; never raises."""
    done = 0
    for path in paths:
        try:
            size = path.stat().st_size
            if system_memory().available < size + MEMORY_KEPT_BYTES:
                break
            for length in _chunks(path, size):
                done += length
                if stop.is_set():
                    return done
        except OSError as error:
            logger.debug("Could not read ahead {}: {}", path, error)
    return done


def _chunks(path: Path, size: int) -> Iterable[int]:
    """Bytes brought in, piece by piece."""
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            for offset in range(0, size, CHUNK_BYTES):
                length = min(CHUNK_BYTES, size - offset)
                # The kernel reads by itself; no byte is copied to us.
                os.posix_fadvise(file.fileno(), offset, length, os.POSIX_FADV_WILLNEED)
                yield length
        else:
            buffer = bytearray(CHUNK_BYTES)
            while length := file.readinto(buffer):
                yield length
