"""LoRAs and textual inversions that jobs name: from the disk if they are there, else fetched while the job waits.

CivitAI being slow, blocked or down costs the jobs that need it their LoRA, never others their time: every wait is
bounded, what was not found is not asked for again soon, and after failures in a row nothing is asked for a while.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import httpx
from loguru import logger

from worker.aio import timeout
from worker.errors import HordeUnreachable, WorkerError
from worker.models.budget import GIB, choose_evictions
from worker.models.cachefile import read_json, write_json
from worker.models.civitai import Kind, NotThere, Offer, fits, look_up, read_name
from worker.models.download import Download, Downloader
from worker.models.fetch import fetch_json
from worker.models.store import Store
from worker.workflows.families import Family
from worker.workflows.request import Embedding, EmbeddingWish, LoraFile, LoraWish, Note, ServedModel

#: Gives out textual inversions as safetensors, checked by the Horde's people.
HORDELING: Final = "https://hordeling.aihorde.net/api/v1/embedding"
#: Bytes; what is larger is not fetched for a single job.
MAX_BYTES: Final = {Kind.LORA: 400 * 1024 * 1024, Kind.EMBEDDING: 20 * 1024 * 1024}
#: Seconds a job waits for one file; a download goes on without it.
WAIT_S: Final = {Kind.LORA: 45.0, Kind.EMBEDDING: 15.0}
#: Seconds in which what was not found is not asked for again.
NOT_THERE_S: Final = 600.0
#: Seconds after which a model id is asked for again, because it stands for the newest version.
FRESH_S: Final = 24 * 3600.0
#: Failures in a row after which nothing is asked for `REST_S` seconds.
MAX_FAILURES: Final = 3
REST_S: Final = 120.0
#: What was learned, by what was asked for; below the model root.
INDEX: Final = "horde_model_reference/civitai.cached.json"
#: Entries of the index, and of what was not found, that are kept.
MAX_ENTRIES: Final = 5000

_UNSAFE = re.compile(r"[^\w .()-]+")


class Refused(WorkerError):
    """The file is there, and not for this job; `value` is gen_metadata's word for why."""

    def __init__(self, message: str, value: str = "download_failed") -> None:
        super().__init__(message)
        self.value = value


class AdhocFiles:
    """Finds and fetches. `nsfw` False refuses what CivitAI marks as such; `budget_bytes` bounds each folder."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        store: Store,
        downloader: Downloader,
        *,
        nsfw: bool = True,
        budget_bytes: int = 10 * GIB,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._store = store
        self._downloader = downloader
        self._nsfw = nsfw
        self._budget_bytes = budget_bytes
        self._now_s = now_s
        index = read_json(store.root / INDEX)
        self._index: dict[str, dict[str, Any]] = index if isinstance(index, dict) else {}
        self._not_there: dict[str, float] = {}
        self._failures = 0
        self._rest_until_s = 0.0

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | Note:
        """The LoRA's file, or what to tell the requester. Never raises for anything the network does."""
        found = await self._provide(Kind.LORA, read_name(wish.name), model.family, is_version=wish.is_version)
        if isinstance(found, Refused):
            return Note("lora", found.value, wish.name[:255])
        path, words = found
        return LoraFile(path.name, wish.model, wish.clip, wish.inject_trigger, tuple(words))

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | Note:
        """The textual inversion's file, or what to tell the requester. Never raises for anything the network does."""
        found = await self._provide(Kind.EMBEDDING, read_name(wish.name), model.family)
        if isinstance(found, Refused):
            return Note("ti", found.value, wish.name[:255])
        return Embedding(found[0].stem, wish.strength, wish.target)

    async def _provide(
        self, kind: Kind, name: str, family: Family, *, is_version: bool = False
    ) -> tuple[Path, Iterable[str]] | Refused:
        key = f"{kind.folder}:{'version' if is_version else 'name'}:{name.casefold()}"
        try:
            async with timeout(WAIT_S[kind]):
                entry = await self._entry(key, kind, name, is_version=is_version)
                if not fits(entry["base_model"], family):
                    raise Refused(f"it is for {entry['base_model']}", "baseline_mismatch")
                path = await self._file(kind, entry)
        except TimeoutError:
            refused = Refused(f"it did not come within {WAIT_S[kind]:g} s")
        except (Refused, NotThere) as error:
            refused = error if isinstance(error, Refused) else Refused(error.message)
        except (WorkerError, OSError) as error:
            refused = Refused(str(error))
        else:
            self._store.mark_used(path)
            return path, entry["words"]
        logger.bind(action="adhoc_refused", kind=kind.folder).warning(
            "{} {} is left out: {}", kind.folder, name, refused
        )
        return refused

    async def _entry(self, key: str, kind: Kind, name: str, *, is_version: bool) -> dict[str, Any]:
        """What is known of a wish, asked for only if that is nothing, or long ago."""
        kept = self._index.get(key)
        if kept and (is_version or self._now_s() - kept["asked_s"] < FRESH_S) and self._path(kind, kept).is_file():
            return kept
        if self._not_there.get(key, 0.0) > self._now_s():
            raise NotThere("it was not there a moment ago.")
        if self._rest_until_s > self._now_s():
            if kept:
                return kept
            raise Refused("CivitAI does not answer these minutes")
        try:
            offer = await self._ask(kind, name, is_version=is_version)
        except NotThere:
            self._remember_missing(key)
            raise
        except (HordeUnreachable, TimeoutError, asyncio.CancelledError) as error:
            self._count_failure(error)
            if kept and isinstance(error, HordeUnreachable):
                return kept
            raise
        self._failures = 0
        entry = {
            "file": _file_name(kind, offer), "url": offer.url, "sha256": offer.sha256, "size": offer.size,
            "base_model": offer.base_model, "nsfw": offer.nsfw, "words": list(offer.words), "asked_s": self._now_s(),
        }  # fmt: skip
        await self._keep(key, entry)
        return entry

    async def _ask(self, kind: Kind, name: str, *, is_version: bool) -> Offer:
        offer = await look_up(self._http, name, kind, is_version=is_version, nsfw=self._nsfw)
        if kind is not Kind.EMBEDDING:
            return offer
        try:
            data = (await fetch_json(self._http, f"{HORDELING}/{offer.model_id}", timeout_s=10.0)).data
            return Offer(**{**vars(offer), "url": str(data["url"]), "sha256": str(data["sha256"]).casefold()})
        except (HordeUnreachable, KeyError, TypeError) as error:
            logger.bind(action="hordeling_unavailable").debug("Hordeling has no {}: {}", name, error)
            return offer

    async def _file(self, kind: Kind, entry: dict[str, Any]) -> Path:
        if entry["nsfw"] and not self._nsfw:
            raise Refused("it is marked nsfw, and this worker is not")
        path = self._path(kind, entry)
        if path.is_file():
            return path
        if entry["size"] > MAX_BYTES[kind]:
            raise Refused(f"it has {entry['size'] // 1024**2} MiB, more than is fetched for a job")
        await asyncio.to_thread(self._make_room, kind, entry["size"])
        return await self._downloader.fetch(Download(entry["url"], path, entry["sha256"], entry["size"]))

    def _make_room(self, kind: Kind, size: int) -> None:
        files = self._store.cached_files(kind.folder)
        for file in choose_evictions(files, self._budget_bytes, self._now_s(), needed_bytes=size):
            self._store.evict(file)

    def _path(self, kind: Kind, entry: dict[str, Any]) -> Path:
        return self._store.root / kind.folder / str(entry["file"])

    def _remember_missing(self, key: str) -> None:
        now_s = self._now_s()
        if len(self._not_there) >= MAX_ENTRIES:
            self._not_there = {key: until for key, until in self._not_there.items() if until > now_s}
        if len(self._not_there) < MAX_ENTRIES:
            self._not_there[key] = now_s + NOT_THERE_S

    def _count_failure(self, error: BaseException) -> None:
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            self._rest_until_s = self._now_s() + REST_S
            self._failures = 0
            logger.bind(action="civitai_resting").warning("CivitAI is not asked for {:.0f} s: {}", REST_S, error)

    async def _keep(self, key: str, entry: dict[str, Any]) -> None:
        self._index.pop(key, None)
        self._index[key] = entry
        while len(self._index) > MAX_ENTRIES:
            del self._index[next(iter(self._index))]
        try:
            await asyncio.to_thread(write_json, self._store.root / INDEX, dict(self._index))
        except OSError as error:
            logger.bind(action="civitai_index_not_kept").warning("What CivitAI said can't be kept: {}", error)


def _file_name(kind: Kind, offer: Offer) -> str:
    """The name the file gets: as reGen calls it, so that either finds the other's."""
    if kind is Kind.EMBEDDING:
        return f"{offer.model_id}.safetensors"
    name = _UNSAFE.sub("", offer.name).strip(" .")[:128]
    return f"{name}_{offer.version_id}.safetensors"
