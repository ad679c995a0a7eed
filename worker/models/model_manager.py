"""The models room of a running worker: what is served, what is on its way, what can't be had, and why.

Whole models are served at once, the others are fetched in the background in the owner's order, each served as soon as
it is whole. A file that an engine can't read is checked, set aside if it is broken, and fetched again. Everything
here happens beside the jobs: without network the worker serves what lies on its disk.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx
from loguru import logger

from worker.config.schema import BridgeData
from worker.errors import JobError, WorkerError
from worker.models.auxiliary_records import as_file
from worker.models.catalog.custom import CustomModels, write_custom_file
from worker.models.catalog.model_commands import needs_statistics
from worker.models.catalog.model_selection import Choice, choose, load_lists, load_month, store_of
from worker.models.catalog.records import Category, ModelRecord
from worker.models.catalog.reference import TIMEOUT_S, Reference
from worker.models.download.downloader import FIRST_PAUSE_S, RESERVE_BYTES, Downloader, open_client
from worker.models.download.transfer import Throttle
from worker.models.download_plan import repair, supply
from worker.models.loras.lora_fetcher import AdhocFiles, Hosts
from worker.models.missing_files import find_lacking
from worker.models.progress import DownloadReport, RoomState
from worker.workflows.auxiliary_files import AuxiliaryFile, needs
from worker.workflows.request import (
    Embedding,
    EmbeddingWish,
    GenMetadataNote,
    LoraFile,
    LoraWish,
    RenderRequest,
    ServedModel,
)

#: Downloads of jobs' additions at the same time; they never wait for models.
ADHOC_AT_ONCE: Final = 4
#: Seconds one of them may take up a place; what arrived is kept for the next job that asks for it.
ADHOC_LIMIT_S: Final = 600.0
#: How often an engine may fail to read a model whose files are right, before it is not offered any more.
MAX_UNREADABLE: Final = 2
#: Keys that decide which files are wanted; a change of any of them begins a new round.
DECISIVE: Final = (
    "models_to_load", "models_to_skip", "load_large_models", "model_reference", "model_reference_branch",
    "allow_post_processing", "allow_controlnet", "allow_sdxl_controlnet",
)  # fmt: skip
NO_LISTS: Final = Reference({}, {})
NO_MODELS: Final = CustomModels(MappingProxyType({}))


@dataclass(frozen=True)
class Pace:
    """Times in seconds, sizes in bytes."""

    #: before what could not be had is tried again; doubled each time up to the limit
    retry_s: float = 900.0
    retry_limit_s: float = 6 * 3600.0
    #: between two lines about downloads in the log
    report_s: float = 30.0
    #: of a download's second try
    first_pause_s: float = FIRST_PAUSE_S
    #: left free on the disk
    reserve_bytes: int = RESERVE_BYTES


class ModelRoom:
    """`custom`: the owner's own models. `tokens`: host → token for downloads from it.

    `custom_file` is where `custom_models.json` is kept, if anywhere.
    """

    def __init__(
        self,
        config: BridgeData,
        root: Path,
        *,
        custom: CustomModels = NO_MODELS,
        tokens: Mapping[str, str] = MappingProxyType({}),
        custom_file: Path | None = None,
        pace: Pace = Pace(),
        hosts: Hosts = Hosts(),  # noqa: B008 - frozen
    ) -> None:
        self._config = config
        self._custom = custom
        self.store = store_of(config, root, custom)
        self._tokens = tokens
        self._custom_file = custom_file
        self._pace = pace
        self._hosts = hosts
        self._throttle = Throttle(config.download_bytes_per_s)
        self._report = DownloadReport()
        self._reference = NO_LISTS
        self._wanted: tuple[ModelRecord, ...] = ()
        self._served: dict[str, ServedModel] = {}
        self._failed: dict[str, str] = {}
        #: of these another try may do better
        self._worth_another: set[str] = set()
        #: under suspicion: answered for, but not offered
        self._checking: set[str] = set()
        self._unreadable: dict[str, int] = {}
        self._said: set[str] = set()
        self._changed = asyncio.Event()
        self._mending: set[asyncio.Task[None]] = set()
        self._adhoc: AdhocFiles | None = None

    # What jobs ask

    def names(self) -> tuple[str, ...]:
        """Models that can be rendered now, in the owner's order."""
        return tuple(
            record.name for record in self._wanted if record.name in self._served and record.name not in self._checking
        )

    def model(self, name: str) -> ServedModel | None:
        return self._served.get(name)

    def record(self, name: str) -> ModelRecord | None:
        """What is known of a model that the owner wants served."""
        return next((record for record in self._wanted if record.name == name), None)

    def has(self, file: AuxiliaryFile) -> bool:
        return self.store.check(as_file(file)) is None

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | GenMetadataNote:
        assert self._adhoc is not None, "the room is not running"
        return await self._adhoc.lora(wish, model)

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | GenMetadataNote:
        assert self._adhoc is not None, "the room is not running"
        return await self._adhoc.embedding(wish, model)

    def broken(self, request: RenderRequest) -> None:
        """Check the files of a request that an engine could not read; its model is not offered meanwhile."""
        name = request.model.name
        if name in self._checking or name not in self._served:
            return
        self._checking.add(name)
        task = asyncio.create_task(self._mend(request), name=f"mend {name}")
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    # What the owner sees and changes

    def state(self) -> RoomState:
        """Where things stand."""
        ready = self.names()
        waiting = tuple(r.name for r in self._wanted if r.name not in ready and r.name not in self._failed)
        return RoomState(
            ready,
            waiting,
            MappingProxyType(dict(self._failed)),
            self._report.downloads,
            self._report.bytes_per_s,
            self._report.left_s,
        )

    def change(self, before: BridgeData, after: BridgeData) -> None:
        """New settings count from now on."""
        self._config = after
        self._throttle.bytes_per_s = after.download_bytes_per_s
        if self._adhoc:
            self._adhoc.nsfw = after.nsfw
            self._adhoc.wait_limit_s = after.download_timeout
        if any(getattr(before, key) != getattr(after, key) for key in DECISIVE):
            self._unreadable.clear()
            self._changed.set()

    # Its life

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ModelRoom"]:
        """Find, fetch and mend until the block ends. What is unfinished then goes on with the next start."""
        async with contextlib.AsyncExitStack() as stack:
            public = await stack.enter_async_context(open_client(private=self._config.allow_private_downloads))
            # Whom the owner names in the settings may be anywhere.
            own = await stack.enter_async_context(httpx.AsyncClient(timeout=TIMEOUT_S))
            models = Downloader(
                public, self.store.hashes,
                tokens=self._tokens, throttle=self._throttle, on_progress=self._report.note,
                first_pause_s=self._pace.first_pause_s, reserve_bytes=self._pace.reserve_bytes,
            )  # fmt: skip
            stack.push_async_callback(models.close)
            additions = Downloader(
                public, self.store.hashes,
                tokens=self._tokens, throttle=self._throttle, at_once=ADHOC_AT_ONCE, limit_s=ADHOC_LIMIT_S,
                first_pause_s=self._pace.first_pause_s, reserve_bytes=self._pace.reserve_bytes,
            )  # fmt: skip
            self._adhoc = AdhocFiles(
                public, self.store, additions,
                nsfw=self._config.nsfw, budget_bytes=self._config.lora_cache_bytes,
                wait_limit_s=self._config.download_timeout, hosts=self._hosts,
            )  # fmt: skip
            stack.push_async_callback(self._adhoc.close)
            await asyncio.to_thread(self._write_custom_file)
            lives = [
                asyncio.create_task(self._live(own, models), name="models"),
                asyncio.create_task(self._tell(), name="models-report"),
            ]
            stack.push_async_callback(self._end, lives)
            yield self

    async def _end(self, lives: Iterable["asyncio.Task[None]"]) -> None:
        tasks = [*lives, *self._mending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _live(self, own: httpx.AsyncClient, downloader: Downloader) -> None:
        pause_s = self._pace.retry_s
        # What lies on the disk is served before the network has said a word.
        with contextlib.suppress(WorkerError):
            await self._adopt(await self._choose(None))
        while True:
            self._changed.clear()
            try:
                done = await self._unless_changed(self._round(own, downloader))
            except Exception:  # a defect here must not cost the models that are served
                logger.exception("A defect in the models room")
                done, self._worth_another = True, self._worth_another | {"the models room"}
            if not done:
                pause_s = self._pace.retry_s
                continue
            if not self._worth_another:
                await self._changed.wait()
                pause_s = self._pace.retry_s
            elif not await self._unless_changed(asyncio.sleep(pause_s)):
                pause_s = self._pace.retry_s
            else:
                pause_s = min(2 * pause_s, self._pace.retry_limit_s)

    async def _unless_changed(self, what: Awaitable[object]) -> bool:
        """Whether it came to its end before something changed; else it is broken off."""
        task, changed = asyncio.ensure_future(what), asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((task, changed), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return True
            return False
        finally:
            changed.cancel()
            task.cancel()
            await asyncio.gather(task, changed, return_exceptions=True)

    async def _round(self, own: httpx.AsyncClient, downloader: Downloader) -> None:
        """Choose anew, serve what is there, fetch what is not."""
        self._failed.clear()
        self._worth_another.clear()
        try:
            choice = await self._choose(own)
        except WorkerError as error:
            known = "the models known so far" if self._reference.images else "models of your own"
            logger.bind(action="model_lists_unavailable").error("Only {} are served: {}", known, error)
            self._worth_another.add("the model lists")
            choice = await self._choose(None, self._reference)
        for warning in choice.warnings:
            self._say(warning)
        await self._adopt(choice)
        logger.bind(action="models_chosen").info("{}.", self.state())
        await self._supply(choice, downloader)

    async def _choose(self, http: httpx.AsyncClient | None, reference: Reference | None = None) -> Choice:
        entries = (*self._config.models_to_load, *self._config.models_to_skip)
        lists = reference or await load_lists(self._config, self.store.root, http)
        month = await load_month(self._config, self.store.root, http, entries)
        if month is None and needs_statistics(entries):
            self._worth_another.add("the month's figures")
        wanted = None if lists.images else ()
        return choose(self._config, lists, self._custom, month=month, wanted=wanted)

    async def _adopt(self, choice: Choice) -> None:
        """From now on these models are wanted; those that are whole are served."""
        self._reference = choice.reference
        self._wanted = choice.records
        self._served = {name: served for name, served in self._served.items() if name in choice.resolution.why}
        self.store.refresh()
        for record in choice.records:
            await asyncio.to_thread(self._look, record)

    def _look(self, record: ModelRecord) -> None:
        """Serve a model if all its files are there."""
        if self._unreadable.get(record.name, 0) >= MAX_UNREADABLE:
            self._failed[record.name] = "engines can't read it, although its files are the right ones"
            self._served.pop(record.name, None)
            return
        served = self.store.served(record)
        if isinstance(served, ServedModel):
            self._served[record.name] = served
        else:
            self._served.pop(record.name, None)

    async def _supply(self, choice: Choice, downloader: Downloader) -> None:
        lacking = await asyncio.to_thread(
            find_lacking, self.store, self._config, choice,
            reserve_bytes=self._pace.reserve_bytes, given_up=frozenset(self._failed),
        )  # fmt: skip
        for name, reason in lacking.refused.items():
            self._fail(name, reason, again=True)
            logger.bind(action="model_unavailable", model=name).error("{} is not fetched: {}.", name, reason)
        await downloader.keep_only({download.target for download in lacking.plan.downloads})
        self._report.plan(lacking.plan.known_bytes)
        if lacking.plan.downloads:
            logger.bind(action="download_plan").info("Models: {}.", lacking.plan)
        await supply(self.store, lacking.records, downloader, on_ready=self._arrived, on_failed=self._missed)

    def _arrived(self, record: ModelRecord) -> None:
        if record.category is Category.IMAGE:
            self._look(record)

    def _missed(self, record: ModelRecord, error: WorkerError) -> None:
        self._fail(record.name, str(error), again=not getattr(error, "final", True))

    def _fail(self, name: str, reason: str, *, again: bool) -> None:
        self._failed[name] = reason
        if again:
            self._worth_another.add(name)

    async def _mend(self, request: RenderRequest) -> None:
        """Find the file that is to blame. What is set aside is fetched again with the next round, which begins now."""
        name = request.model.name
        record = next((record for record in self._wanted if record.name == name), None)
        try:
            own = [await repair(self.store, file) for file in record.files] if record else []
            others = [await self._adhoc.mend(lora.file) for lora in request.loras] if self._adhoc else []
            with contextlib.suppress(JobError, KeyError):
                others += [await repair(self.store, as_file(file, self._reference)) for file in needs(request)]
        except (WorkerError, OSError) as error:
            # It stays where it is; that its checksum is wrong is on record now, and one of our own comes before it.
            logger.bind(action="model_broken", model=name).error("{} can't be set aside: {}", name, error)
            own, others = [True], []
        finally:
            self._checking.discard(name)
        if any((*own, *others)):
            if any(own):
                self._served.pop(name, None)
            self._changed.set()
            return
        self._unreadable[name] = self._unreadable.get(name, 0) + 1
        if record and self._unreadable[name] >= MAX_UNREADABLE:
            self._look(record)
            logger.bind(action="model_unreadable", model=name).error(
                "{} is not offered any more: {}. Change models_to_load, or restart, to try it again.",
                name, self._failed[name],
            )  # fmt: skip

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(self._pace.report_s)
            if self._report.downloads:
                logger.bind(action="download_progress").info("{}.", self.state())

    def _say(self, warning: str) -> None:
        """Each warning once, however many rounds there are."""
        if warning not in self._said:
            self._said.add(warning)
            logger.warning("{}", warning)

    def _write_custom_file(self) -> None:
        if self._custom_file is None:
            return
        try:
            write_custom_file(self._custom_file, self._custom.records.values())
        except OSError as error:
            logger.bind(action="custom_file_not_kept").warning("{} can't be written: {}", self._custom_file, error)
