"""LoRAs and textual inversions that jobs name: from the disk if they are there, else fetched while the job waits.

A CivitAI that is slow, blocked or down costs jobs the files they name, never their time: every wait is bounded, what
was not found is not asked for again soon, and after failures in a row nothing is asked for a while. However many jobs
name a file, it is looked up once and fetched once, and both go on when those jobs stop waiting.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx
from loguru import logger

from worker.aio import SharedTasks, timeout
from worker.bounded_dict import BoundedDict
from worker.circuit_breaker import CircuitBreaker
from worker.clock import Clock
from worker.errors import DownloadError, DownloadRefused, FileBroken, HostUnreachable, Retry, WorkerError
from worker.models.catalog.documents import fetch_json
from worker.models.disk.contents import embedding_damage, lora_damage
from worker.models.disk.store import Store
from worker.models.download.downloader import Download, Downloader
from worker.models.loras.civitai import API, CivitaiFile, Kind, fits, look_up, read_name
from worker.models.loras.known_files import MAX_ENTRIES, KnownFile, KnownFiles
from worker.models.loras.lora_cache import choose_name, find_lora, find_textual_inversion, make_room, mark_used
from worker.units import GIB, MIB
from worker.workflows.request import Embedding, EmbeddingWish, GenMetadataNote, LoraFile, LoraWish, ServedModel
from worker.workflows.types import Family

#: Serves textual inversions that the Horde's maintainers checked, as safetensors, whatever CivitAI has them as.
HORDELING: Final = "https://hordeling.aihorde.net/api/v1/embedding"
#: Most bytes of a file that is fetched for a single job.
MAX_BYTES: Final = {Kind.LORA: 400 * MIB, Kind.TEXTUAL_INVERSION: 20 * MIB}
#: Seconds a job waits for one file; the download goes on without it.
WAIT_S: Final = {Kind.LORA: 45.0, Kind.TEXTUAL_INVERSION: 15.0}
#: Seconds a job waits for CivitAI's answer about a file that is on disk.
ANSWER_S: Final = 5.0
#: Seconds in which what was not found is not asked for again.
NOT_FOUND_S: Final = 600.0
#: Seconds after which a model id is looked up again, because it stands for the newest version.
FRESH_S: Final = 24 * 3600.0
#: Failures in a row after which nothing is asked for `REST_S` seconds.
MAX_FAILURES: Final = 3
REST_S: Final = 120.0
#: The words of gen_metadata for a file that is not to be had, one that can't be used, and one for another family.
FAILED, BROKEN, MISMATCH = "download_failed", "parse_failed", "baseline_mismatch"


@dataclass(frozen=True)
class LoraHosts:
    """Addresses that are asked for what jobs name."""

    civitai: str = API
    hordeling: str = HORDELING


class LoraFetcher:
    """Finds and fetches what jobs name.

    `nsfw` False refuses what CivitAI marks as such; `budget_bytes` bounds the files of each kind. `wait_limit_s`
    bounds what a job waits for a file, if that is less than `WAIT_S`.
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
        hosts: LoraHosts = LoraHosts(),
        now_s: Clock = time.time,
    ) -> None:
        self.nsfw = nsfw
        self.wait_limit_s = wait_limit_s
        self._http = http
        self._store = store
        self._downloader = downloader
        self._budget_bytes = budget_bytes
        self._hosts = hosts
        self._now_s = now_s
        self._known = KnownFiles(store.root)
        #: wish → when it may be asked for again
        self._not_found: BoundedDict[str, float] = BoundedDict(MAX_ENTRIES)
        # Two, since CivitAI's answers and its files come from different hosts.
        self._api_breaker = CircuitBreaker(MAX_FAILURES, REST_S)
        self._file_breaker = CircuitBreaker(MAX_FAILURES, REST_S)
        self._asking: SharedTasks[str, KnownFile] = SharedTasks()
        self._fetching: SharedTasks[Path, Path] = SharedTasks()

    async def close(self) -> None:
        """End all look-ups and downloads."""
        await asyncio.gather(self._asking.end(), self._fetching.end())
        await self._downloader.close()

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | GenMetadataNote:
        """The LoRA's file, or the note for the requester. Never raises for anything that hosts or files do."""
        found = await self._provide(Kind.LORA, wish.name, model.family, is_version=wish.is_version)
        if isinstance(found, str):
            return GenMetadataNote("lora", found, wish.name[:255])
        return LoraFile(found.file, wish.model, wish.clip, wish.inject_trigger, found.words)

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | GenMetadataNote:
        """The textual inversion's file, or the note for the requester. Never raises, like `lora`."""
        found = await self._provide(Kind.TEXTUAL_INVERSION, wish.name, model.family)
        if isinstance(found, str):
            return GenMetadataNote("ti", found, wish.name[:255])
        return Embedding(Path(found.file).stem, wish.strength, wish.target)

    async def note_broken(self, kind: Kind, name: str, reason: str) -> None:
        """Remember that engines can't use this file, though it is the one that CivitAI has. It is left out from now on.

        `name` as ComfyUI lists it; textual inversions without a suffix. Files without a known checksum are not noted.
        """
        files = (name,) if kind is Kind.LORA else (f"{name}.safetensors",)
        known = next((found for file in files if (found := self._known.by_file(kind, file))), None)
        if known and known.sha256:
            await self._known.keep_bad(known.sha256, reason)

    async def mend(self, file: str) -> bool:
        """After the engine failed to read a LoRA: set it aside if it is broken; whether it was."""
        path = self._store.root / Kind.LORA.folder / file
        known = self._known.by_file(Kind.LORA, file)
        if not path.is_file():
            return False
        self._store.hashes.forget(path)
        sha256 = known.sha256 if known else None
        is_wrong = sha256 is not None and sha256 != await asyncio.to_thread(self._store.hashes.compute, path)
        contents = await asyncio.to_thread(self._store.contents, path)
        if is_wrong or contents.damage:
            self._store.quarantine(path)
        return is_wrong or bool(contents.damage)

    async def _provide(self, kind: Kind, wish: str, family: Family, *, is_version: bool = False) -> KnownFile | str:
        """The file, on disk and usable; or gen_metadata's word for why it is left out."""
        name = read_name(wish)
        key = f"{kind.folder}:{'version' if is_version else 'name'}:{name.casefold()}"
        wait_s = min(WAIT_S[kind], self.wait_limit_s)
        value = FAILED
        try:
            async with timeout(wait_s):
                known = await self._look_up(key, kind, name, is_version=is_version)
                made_for = known.base_model
                if fits(made_for, family):
                    path = await self._file(key, kind, known)
                    contents = await asyncio.to_thread(self._store.contents, path)
                    if kind is not Kind.LORA or contents.fits(family):
                        mark_used(path)
                        return known
                    made_for = contents.family
            value, reason = MISMATCH, f"it is for {made_for} and changes nothing on a model of {family.value}"
        except FileBroken as error:
            value, reason = BROKEN, error.message
        except TimeoutError:
            reason = f"it did not come within {wait_s:g} s"
        except (WorkerError, OSError) as error:
            reason = str(error)
        logger.bind(action="lora_left_out", kind=kind.folder).warning(
            "{} {} is left out: {}", kind.folder, name, reason
        )
        return value

    async def _look_up(self, key: str, kind: Kind, name: str, *, is_version: bool) -> KnownFile:
        """What is known of a wish. CivitAI is asked only if that is nothing, or outdated."""
        kept = self._known.by_wish(key)
        here = kept if kept and self._path(kind, kept).is_file() else None
        if here and (is_version or self._now_s() - here.asked_s < FRESH_S):
            return here
        here = here or await asyncio.to_thread(self._on_disk, kind, name, is_version=is_version)
        try:
            async with timeout(ANSWER_S if here else None):
                return await self._ask_once(key, kind, name, is_version=is_version)
        except (DownloadError, TimeoutError) as error:
            # What is on disk is used whatever CivitAI says; the host of its files may answer when CivitAI does not.
            can_fetch = kept if isinstance(error, HostUnreachable) else None
            if found := here or can_fetch:
                return found
            raise

    async def _ask_once(self, key: str, kind: Kind, name: str, *, is_version: bool) -> KnownFile:
        if self._not_found.get(key, 0.0) > self._now_s():
            raise DownloadRefused("it was not found a moment ago.")
        if self._api_breaker.is_open(self._now_s()):
            raise HostUnreachable("CivitAI does not answer these minutes.")
        return await self._asking.result(key, lambda: self._ask(key, kind, name, is_version=is_version))

    async def _ask(self, key: str, kind: Kind, name: str, *, is_version: bool) -> KnownFile:
        """Ask CivitAI, and keep its answer, also that there is no such file."""
        try:
            found = await look_up(
                self._http, name, kind, is_version=is_version, nsfw=self.nsfw, api=self._hosts.civitai
            )
            if kind is Kind.TEXTUAL_INVERSION:
                found = await self._ask_hordeling(found)
            if not found.url:
                raise DownloadRefused("it has no safetensors file.")
        except DownloadRefused:
            self._api_breaker.succeeded()
            self._not_found[key] = self._now_s() + NOT_FOUND_S
            raise
        except DownloadError as error:
            self._note_failure(self._api_breaker, error)
            raise
        self._api_breaker.succeeded()
        known = KnownFile(
            await asyncio.to_thread(choose_name, self._store, kind, found),
            found.url, found.sha256, found.size, found.base_model, found.nsfw, found.words, self._now_s(),
        )  # fmt: skip
        await self._known.keep(key, known)
        return known

    async def _ask_hordeling(self, found: CivitaiFile) -> CivitaiFile:
        """The textual inversion as Hordeling serves it, or unchanged."""
        try:
            data = await fetch_json(self._http, f"{self._hosts.hordeling}/{found.model_id}", timeout_s=10.0)
            return replace(found, url=str(data["url"]), sha256=str(data["sha256"]).casefold())
        except (DownloadError, KeyError, TypeError) as error:
            logger.bind(action="hordeling_unavailable").debug("Hordeling has no {}: {}", found.name, error)
            return found

    async def _file(self, key: str, kind: Kind, known: KnownFile) -> Path:
        """The whole file on disk. Raises DownloadError; FileBroken for one that can't be used."""
        if known.nsfw and not self.nsfw:
            raise DownloadRefused("it is marked nsfw, and this worker is not.")
        if reason := self._known.why_bad(known.sha256):
            raise FileBroken(reason)
        path = self._path(kind, known)
        is_here = await asyncio.to_thread(path.is_file)
        damage = await self._damage(kind, path) if is_here else ""
        if is_here and not damage:
            return path
        if not known.url:
            raise FileBroken(f"{path.name}: {damage}.")
        if known.size > MAX_BYTES[kind]:
            raise DownloadRefused(f"it has {known.size // MIB} MiB, more than is fetched for a job.")
        if self._file_breaker.is_open(self._now_s()):
            raise HostUnreachable("the host of its file does not answer these minutes.")
        return await self._fetching.result(path, lambda: self._fetch(key, kind, known, path))

    async def _fetch(self, key: str, kind: Kind, known: KnownFile, path: Path) -> Path:
        await asyncio.to_thread(make_room, self._store, kind, known.size, self._budget_bytes, self._now_s())
        try:
            fetched = await self._downloader.fetch(
                Download(known.url, path, known.sha256, known.size, max_bytes=MAX_BYTES[kind])
            )
        except DownloadError as error:
            if error.retry is Retry.NO:
                self._not_found[key] = self._now_s() + NOT_FOUND_S
                raise DownloadRefused(error.message) from error
            self._note_failure(self._file_breaker, error)
            raise
        self._file_breaker.succeeded()
        if damage := await self._damage(kind, path):
            reason = f"{path.name}: {damage}."
            if known.sha256:
                await self._known.keep_bad(known.sha256, reason)
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise FileBroken(reason)
        return fetched

    async def _damage(self, kind: Kind, path: Path) -> str:
        """Why the file can't be used as what it was asked for; "" if it can."""
        contents = await asyncio.to_thread(self._store.contents, path)
        return lora_damage(contents) if kind is Kind.LORA else embedding_damage(contents)

    def _on_disk(self, kind: Kind, name: str, *, is_version: bool) -> KnownFile | None:
        """A file of this name, with what was learned of it by another wish."""
        path = (
            find_lora(self._store, name, is_version=is_version)
            if kind is Kind.LORA
            else find_textual_inversion(self._store, name)
        )
        return (self._known.by_file(kind, path.name) or KnownFile(path.name)) if path else None

    def _path(self, kind: Kind, known: KnownFile) -> Path:
        return self._store.root / kind.folder / known.file

    def _note_failure(self, breaker: CircuitBreaker, error: Exception) -> None:
        if breaker.failed(self._now_s()):
            logger.bind(action="civitai_resting").warning("CivitAI is not asked for {:.0f} s: {}", REST_S, error)
