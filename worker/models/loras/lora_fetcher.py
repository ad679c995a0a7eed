"""LoRAs and textual inversions that jobs name: from the disk if they are there, else fetched while the job waits.

CivitAI being slow, blocked or down costs the jobs that need it their LoRA, never others their time: every wait is
bounded, what was not found is not asked for again soon, and after failures in a row nothing is asked for a while.
However many jobs name a file, it is looked up once and fetched once, and that goes on when they stop waiting.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
from loguru import logger

from worker.aio import timeout
from worker.errors import HordeUnreachable, WorkerError
from worker.models.catalog.cache_file import read_json, write_json
from worker.models.catalog.fetch import fetch_json
from worker.models.disk.eviction import GIB
from worker.models.disk.integrity import find_damage
from worker.models.disk.store import Store
from worker.models.download.circuit_breaker import Breaker
from worker.models.download.downloader import Download, Downloader
from worker.models.download.transfer import DownloadFailed
from worker.models.loras.civitai import API, Kind, NotThere, Offer, fits, look_up, read_name
from worker.models.loras.lora_cache import choose_name, find_embedding, find_lora, make_room
from worker.workflows.request import Embedding, EmbeddingWish, GenMetadataNote, LoraFile, LoraWish, ServedModel
from worker.workflows.types import Family

#: Gives out textual inversions, checked by the Horde's people, as safetensors, whatever CivitAI has them as.
HORDELING: Final = "https://hordeling.aihorde.net/api/v1/embedding"
#: Bytes; what is larger is not fetched for a single job.
MAX_BYTES: Final = {Kind.LORA: 400 * 1024 * 1024, Kind.EMBEDDING: 20 * 1024 * 1024}
#: Seconds a job waits for one file; a download goes on without it.
WAIT_S: Final = {Kind.LORA: 45.0, Kind.EMBEDDING: 15.0}
#: Seconds it waits for CivitAI's word on a file that is here.
WORD_S: Final = 5.0
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

#: What is known of a wish: file, url, sha256, size, base_model, nsfw, words, asked_s.
Entry = dict[str, Any]


@dataclass(frozen=True)
class Hosts:
    """Where is asked for what jobs name."""

    civitai: str = API
    hordeling: str = HORDELING


class Refused(WorkerError):
    """The file is there, and not for this job; `value` is gen_metadata's word for why."""

    def __init__(self, message: str, value: str = "download_failed") -> None:
        super().__init__(message)
        self.value = value


class AdhocFiles:
    """Finds and fetches. `nsfw` False refuses what CivitAI marks as such; `budget_bytes` bounds each folder.

    `wait_limit_s` bounds what a job waits for a file, below `WAIT_S` for its kind.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        store: Store,
        downloader: Downloader,
        *,
        nsfw: bool = True,
        budget_bytes: int = 10 * GIB,
        wait_limit_s: float = float("inf"),
        hosts: Hosts = Hosts(),
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.nsfw = nsfw
        self.wait_limit_s = wait_limit_s
        self._http = http
        self._store = store
        self._downloader = downloader
        self._budget_bytes = budget_bytes
        self._hosts = hosts
        self._now_s = now_s
        index = read_json(store.root / INDEX)
        self._index: dict[str, Entry] = index if isinstance(index, dict) else {}
        self._not_there: dict[str, float] = {}
        # Apart, since CivitAI's answers and its files come from different hosts.
        self._answers = Breaker(MAX_FAILURES, REST_S)
        self._files = Breaker(MAX_FAILURES, REST_S)
        self._shared: dict[str, asyncio.Task[Any]] = {}

    async def close(self) -> None:
        """End what is still under way."""
        tasks = list(self._shared.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._downloader.close()

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | GenMetadataNote:
        """The LoRA's file, or what to tell the requester. Never raises for anything the network does."""
        found = await self._provide(Kind.LORA, read_name(wish.name), model.family, is_version=wish.is_version)
        if isinstance(found, Refused):
            return GenMetadataNote("lora", found.value, wish.name[:255])
        path, words = found
        return LoraFile(path.name, wish.model, wish.clip, wish.inject_trigger, tuple(words))

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | GenMetadataNote:
        """The textual inversion's file, or what to tell the requester. Never raises for anything the network does."""
        found = await self._provide(Kind.EMBEDDING, read_name(wish.name), model.family)
        if isinstance(found, Refused):
            return GenMetadataNote("ti", found.value, wish.name[:255])
        return Embedding(found[0].stem, wish.strength, wish.target)

    async def mend(self, file: str) -> bool:
        """After the engine failed to read a LoRA: set it aside if it is broken; whether it was."""
        path = self._store.root / Kind.LORA.folder / file
        known = self._known(Kind.LORA, file)
        sha256 = known["sha256"] if known else None
        if not path.is_file():
            return False
        self._store.hashes.forget(path)
        is_wrong = sha256 is not None and sha256 != await asyncio.to_thread(self._store.hashes.compute, path)
        if is_wrong or await asyncio.to_thread(find_damage, path):
            self._store.quarantine(path)
            return True
        return False

    async def _provide(
        self, kind: Kind, name: str, family: Family, *, is_version: bool = False
    ) -> tuple[Path, Iterable[str]] | Refused:
        key = f"{kind.folder}:{'version' if is_version else 'name'}:{name.casefold()}"
        wait_s = min(WAIT_S[kind], self.wait_limit_s)
        try:
            async with timeout(wait_s):
                entry = await self._entry(key, kind, name, is_version=is_version)
                if not fits(entry["base_model"], family):
                    raise Refused(f"it is for {entry['base_model']}", "baseline_mismatch")
                path = await self._file(key, kind, entry)
            self._store.mark_used(path)
        except TimeoutError:
            refused = Refused(f"it did not come within {wait_s:g} s")
        except (Refused, NotThere) as error:
            refused = error if isinstance(error, Refused) else Refused(error.message)
        except (WorkerError, OSError) as error:
            refused = Refused(str(error))
        else:
            return path, entry["words"]
        logger.bind(action="adhoc_refused", kind=kind.folder).warning(
            "{} {} is left out: {}", kind.folder, name, refused
        )
        return refused

    async def _entry(self, key: str, kind: Kind, name: str, *, is_version: bool) -> Entry:
        """What is known of a wish, asked for only if that is nothing, or long ago."""
        kept = self._index.get(key)
        here = kept if kept and self._path(kind, kept).is_file() else None
        if here and (is_version or self._now_s() - here["asked_s"] < FRESH_S):
            return here
        here = here or self._on_disk(kind, name, is_version=is_version)
        try:
            async with timeout(WORD_S if here else None):
                return await self._learned(key, kind, name, is_version=is_version)
        except (HordeUnreachable, NotThere, TimeoutError) as error:
            # What is here serves whatever CivitAI says; the host of its files may answer when CivitAI does not.
            if found := here or (kept if isinstance(error, HordeUnreachable) else None):
                return found
            raise

    async def _learned(self, key: str, kind: Kind, name: str, *, is_version: bool) -> Entry:
        """What CivitAI says now, unless it said no, or nothing, a moment ago."""
        if self._not_there.get(key, 0.0) > self._now_s():
            raise NotThere("it was not there a moment ago.")
        if self._answers.rests(self._now_s()):
            raise HordeUnreachable("CivitAI does not answer these minutes.")
        learned: Entry = await self._once(key, lambda: self._learn(key, kind, name, is_version=is_version))
        return learned

    async def _learn(self, key: str, kind: Kind, name: str, *, is_version: bool) -> Entry:
        """Ask CivitAI, and keep what it says, also that there is no such thing."""
        try:
            offer = await self._ask(kind, name, is_version=is_version)
        except NotThere:
            self._answers.succeeded()
            self._remember_missing(key)
            raise
        except HordeUnreachable as error:
            self._note_failure(self._answers, error)
            raise
        self._answers.succeeded()
        file = await asyncio.to_thread(choose_name, self._store, kind, offer)
        entry = {
            "file": file, "url": offer.url, "sha256": offer.sha256, "size": offer.size,
            "base_model": offer.base_model, "nsfw": offer.nsfw, "words": list(offer.words), "asked_s": self._now_s(),
        }  # fmt: skip
        await self._keep(key, entry)
        return entry

    async def _ask(self, kind: Kind, name: str, *, is_version: bool) -> Offer:
        offer = await look_up(self._http, name, kind, is_version=is_version, nsfw=self.nsfw, api=self._hosts.civitai)
        if kind is Kind.EMBEDDING:
            offer = await self._ask_hordeling(offer)
        if not offer.url:
            raise NotThere("it has no safetensors file.")
        return offer

    async def _ask_hordeling(self, offer: Offer) -> Offer:
        """The textual inversion as Hordeling gives it out, or as it was."""
        try:
            data = (await fetch_json(self._http, f"{self._hosts.hordeling}/{offer.model_id}", timeout_s=10.0)).data
            return replace(offer, url=str(data["url"]), sha256=str(data["sha256"]).casefold())
        except (HordeUnreachable, KeyError, TypeError) as error:
            logger.bind(action="hordeling_unavailable").debug("Hordeling has no {}: {}", offer.name, error)
            return offer

    async def _file(self, key: str, kind: Kind, entry: Entry) -> Path:
        if entry["nsfw"] and not self.nsfw:
            raise Refused("it is marked nsfw, and this worker is not")
        path = self._path(kind, entry)
        if path.is_file() and not await asyncio.to_thread(find_damage, path):
            return path
        if not entry["url"]:
            raise Refused("its file is broken, and nobody says where to get another")
        if entry["size"] > MAX_BYTES[kind]:
            raise Refused(f"it has {entry['size'] // 1024**2} MiB, more than is fetched for a job")
        if self._files.rests(self._now_s()):
            raise Refused("the host of its file does not answer these minutes")
        fetched: Path = await self._once(str(path), lambda: self._fetch(key, kind, entry, path))
        return fetched

    async def _fetch(self, key: str, kind: Kind, entry: Entry, path: Path) -> Path:
        await asyncio.to_thread(make_room, self._store, kind, entry["size"], self._budget_bytes, self._now_s())
        try:
            fetched = await self._downloader.fetch(
                Download(entry["url"], path, entry["sha256"], entry["size"], max_bytes=MAX_BYTES[kind])
            )
        except DownloadFailed as error:
            if error.final:
                self._remember_missing(key)
            else:
                self._note_failure(self._files, error)
            raise
        self._files.succeeded()
        return fetched

    async def _once(self, key: str, start: Callable[[], Awaitable[Any]]) -> Any:
        """The result of the one task for `key`; it outlives whoever waits for it."""
        task = self._shared.get(key)
        if task is None:
            task = self._shared[key] = asyncio.ensure_future(start())
            task.add_done_callback(lambda task: self._forget(key, task))
        return await asyncio.shield(task)

    def _forget(self, key: str, task: "asyncio.Task[Any]") -> None:
        self._shared.pop(key, None)
        if not task.cancelled():
            task.exception()  # every waiter may be gone; the failure has been counted

    def _on_disk(self, kind: Kind, name: str, *, is_version: bool) -> Entry | None:
        """A file that goes by this name, and what was learned of it for another wish."""
        path = (
            find_lora(self._store, name, is_version=is_version)
            if kind is Kind.LORA
            else find_embedding(self._store, name)
        )
        if path is None:
            return None
        unknown: Entry = {"url": "", "sha256": None, "size": 0, "base_model": "", "nsfw": False, "words": []}
        return self._known(kind, path.name) or {"file": path.name, **unknown}

    def _known(self, kind: Kind, file: str) -> Entry | None:
        """What was learned of a file, whatever it was asked for by."""
        keys = (key for key, entry in self._index.items() if entry["file"] == file)
        return next((self._index[key] for key in keys if key.startswith(f"{kind.folder}:")), None)

    def _path(self, kind: Kind, entry: Entry) -> Path:
        return self._store.root / kind.folder / str(entry["file"])

    def _remember_missing(self, key: str) -> None:
        now_s = self._now_s()
        if len(self._not_there) >= MAX_ENTRIES:
            self._not_there = {key: until for key, until in self._not_there.items() if until > now_s}
        if len(self._not_there) < MAX_ENTRIES:
            self._not_there[key] = now_s + NOT_THERE_S

    def _note_failure(self, breaker: Breaker, error: Exception) -> None:
        if breaker.failed(self._now_s()):
            logger.bind(action="civitai_resting").warning("CivitAI is left alone for {:.0f} s: {}", REST_S, error)

    async def _keep(self, key: str, entry: dict[str, Any]) -> None:
        self._index.pop(key, None)
        self._index[key] = entry
        while len(self._index) > MAX_ENTRIES:
            del self._index[next(iter(self._index))]
        try:
            await asyncio.to_thread(write_json, self._store.root / INDEX, dict(self._index))
        except OSError as error:
            logger.bind(action="civitai_index_not_kept").warning("What CivitAI said can't be kept: {}", error)
