"""The models of a running worker: which are served, which are being fetched, and which can't be used, with the reason.

Complete models are served at once. The others are fetched in the background in the owner's order, each served as soon
as it is complete. A file that an engine can't read is checked, renamed if it is broken, and fetched again. All of this
happens beside the jobs: without network the worker serves what is on its disk.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx
from loguru import logger

from worker.after_fault import SetsAside, after_fault
from worker.aio import end_all, meanwhile
from worker.config.schema import BridgeData
from worker.errors import AdditionBroken, DiskFull, JobError, ModelBroken, Retry, WorkerError
from worker.models.by_demand import wanted_by_demand
from worker.models.catalog.custom import CustomModels, write_custom_file
from worker.models.catalog.model_commands import needs_statistics
from worker.models.catalog.model_selection import ModelSelection, choose, load_lists, load_month, store_of
from worker.models.catalog.records import Category, ModelRecord
from worker.models.catalog.reference import TIMEOUT_S, Reference
from worker.models.disk.store import MissingFile
from worker.models.download.downloader import FIRST_PAUSE_S, RESERVE_BYTES, Downloader, open_client
from worker.models.download.transfer import Throttle
from worker.models.download_plan import (
    as_model_file,
    auxiliary_records,
    fetch_planned,
    plan_downloads,
    repair,
    unlisted_files,
)
from worker.models.loras.civitai import Kind
from worker.models.loras.lora_fetcher import LoraFetcher, LoraHosts
from worker.models.managed_model import ManagedModel, ModelState, unreadable_reason
from worker.models.progress import DownloadReport, ModelsState
from worker.untrusted.http_head import bounded_head
from worker.workflows.auxiliary_files import all_files, needs
from worker.workflows.families import AuxiliaryFile
from worker.workflows.request import (
    Embedding,
    EmbeddingWish,
    GenMetadataNote,
    LoraFile,
    LoraWish,
    RenderRequest,
    ServedModel,
)

#: Downloads of what jobs name at the same time; they never wait for models.
LORAS_AT_ONCE: Final = 4
#: Seconds of one such download; what arrived is kept for the next job that names it.
LORA_LIMIT_S: Final = 600.0
#: How often an engine may fail to read a model whose files are the right ones, before it is not offered any more.
MAX_UNREADABLE: Final = 2
#: Models fetched one after another, unasked, because the one before can't be had and there is no other.
MOST_UNASKED: Final = 4
#: Settings that decide which files are wanted; a change of any of them starts a new round.
DECISIVE: Final = (
    "models_to_load", "models_to_skip", "load_large_models", "model_reference", "model_reference_branch",
    "allow_post_processing", "allow_controlnet", "allow_sdxl_controlnet",
    "dynamic_models", "number_of_dynamic_models", "max_models_to_download",
)  # fmt: skip
NO_LISTS: Final = Reference({}, {})
NO_MODELS: Final = CustomModels({})


@dataclass(frozen=True)
class ManagerTimes:
    """Times in seconds, sizes in bytes."""

    #: before another try at what could not be fetched; doubled each time up to the limit
    retry_s: float = 900.0
    retry_limit_s: float = 6 * 3600.0
    #: between two lines about downloads in the log
    report_s: float = 30.0
    #: before a download's second try
    first_pause_s: float = FIRST_PAUSE_S
    #: left free on the disk
    reserve_bytes: int = RESERVE_BYTES


class ModelManager:
    """`custom`: the owner's own models. `tokens`: host → token for downloads from it.

    `custom_file` is where `custom_models.json` is written, if anywhere.
    """

    def __init__(
        self,
        config: BridgeData,
        root: Path,
        *,
        custom: CustomModels = NO_MODELS,
        tokens: Mapping[str, str] = MappingProxyType({}),
        custom_file: Path | None = None,
        times: ManagerTimes = ManagerTimes(),
        hosts: LoraHosts = LoraHosts(),  # noqa: B008 - frozen
    ) -> None:
        self.store = store_of(config, root, custom)
        self._config = config
        self._doubts: tuple[str, ...] = ()
        self._custom = custom
        self._tokens = tokens
        self._custom_file = custom_file
        self._times = times
        self._hosts = hosts
        self._throttle = Throttle(config.download_bytes_per_s)
        self._report = DownloadReport()
        self._reference = NO_LISTS
        #: by name, in the owner's order
        self._models: dict[str, ManagedModel] = {}
        self._named: frozenset[str] = frozenset()
        #: models that demand has had fetched, and those that it may
        self._granted: set[str] = set()
        self._absent: tuple[str, ...] = ()
        #: what another round may achieve: names, lists
        self._retry: set[str] = set()
        self._warned: set[str] = set()
        self._changed = asyncio.Event()
        self._mending: set[asyncio.Task[None]] = set()
        self._loras: LoraFetcher | None = None

    # Asked by jobs

    def names(self) -> tuple[str, ...]:
        """Models that can be rendered now, in the owner's order."""
        return tuple(name for name, model in self._models.items() if model.state is ModelState.READY)

    def named(self) -> frozenset[str]:
        """Models that the owner named, his own among them."""
        return self._named

    def model(self, name: str) -> ServedModel | None:
        found = self._models.get(name)
        return found.served if found else None

    def fetchable(self) -> tuple[str, ...]:
        """Models that may be fetched once they are asked for; one at a time, and within the owner's bound."""
        states = [model.state for model in self._models.values()]
        on_disk = sum(state in (ModelState.READY, ModelState.CHECKING) for state in states)
        is_busy = ModelState.WAITING in states
        return () if is_busy or on_disk >= self._config.max_models_to_download else self._absent

    def fetch(self, name: str) -> None:
        """Fetch one of `fetchable`."""
        if name in self.fetchable():
            self._granted.add(name)
            self._absent = tuple(each for each in self._absent if each != name)
            self._models[name] = ManagedModel(self._reference.images[name])
            self._changed.set()

    def record(self, name: str) -> ModelRecord | None:
        """The record of a model that the owner wants."""
        found = self._models.get(name)
        return found.record if found else None

    def known_size(self, name: str) -> int | None:
        record = self._reference.images.get(name)
        return None if record is None or record.family is None else record.size or 0

    def has(self, file: AuxiliaryFile) -> bool:
        return self.store.check(as_model_file(file)) is None

    def listed(self, file: AuxiliaryFile) -> str | None:
        return self.store.listed(as_model_file(file))

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | GenMetadataNote:
        assert self._loras is not None, "not running"
        return await self._loras.lora(wish, model)

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | GenMetadataNote:
        assert self._loras is not None, "not running"
        return await self._loras.embedding(wish, model)

    def broken(self, request: RenderRequest, error: ModelBroken | AdditionBroken) -> None:
        """Check the files of a request that an engine could not use; its model is not offered meanwhile.

        A model is in doubt only for files of its own.
        """
        model = self._models.get(request.model.name)
        if model is None or model.state is not ModelState.READY:
            return
        if isinstance(error, ModelBroken):
            model.state = ModelState.CHECKING
        task = asyncio.create_task(self._mend(request, model, error), name=f"mend {model.record.name}")
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    def rendered(self, request: RenderRequest) -> None:
        """An engine could read every file of this request: nothing speaks against its model any more."""
        if model := self._models.get(request.model.name):
            model.unreadable = 0

    # Seen and changed by the owner

    def state(self) -> ModelsState:
        """All models and downloads at this moment."""
        unavailable = (ModelState.WAITING, ModelState.CHECKING)
        return ModelsState(
            self.names(),
            tuple(name for name, model in self._models.items() if model.state in unavailable),
            {n: m.reason for n, m in self._models.items() if m.state is ModelState.FAILED},
            self._report.downloads,
            self._report.bytes_per_s,
            self._report.left_s,
            self._doubts,
        )

    def change(self, before: BridgeData, after: BridgeData) -> None:
        """New settings count from now on."""
        self._config = after
        self._throttle.bytes_per_s = after.download_bytes_per_s
        if self._loras:
            self._loras.nsfw = after.nsfw
            self._loras.wait_limit_s = after.download_timeout
        if any(getattr(before, key) != getattr(after, key) for key in DECISIVE):
            self._warned.clear()
            for model in self._models.values():
                model.unreadable, model.flaw = 0, ""
            self._changed.set()

    # Background work

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ModelManager"]:
        """Find, fetch and mend until the block ends. Unfinished downloads are resumed by the next start."""
        async with contextlib.AsyncExitStack() as stack:
            public = await stack.enter_async_context(open_client(private=self._config.allow_private_downloads))
            # The address of lists in the settings may be private.
            own = await stack.enter_async_context(
                httpx.AsyncClient(timeout=TIMEOUT_S, event_hooks={"request": [bounded_head]})
            )
            models = Downloader(
                public, self.store.hashes,
                tokens=self._tokens, throttle=self._throttle, on_progress=self._report.note,
                first_pause_s=self._times.first_pause_s, reserve_bytes=self._times.reserve_bytes,
            )  # fmt: skip
            stack.push_async_callback(models.close)
            loras = Downloader(
                public, self.store.hashes,
                tokens=self._tokens, throttle=self._throttle, at_once=LORAS_AT_ONCE, limit_s=LORA_LIMIT_S,
                first_pause_s=self._times.first_pause_s, reserve_bytes=self._times.reserve_bytes,
            )  # fmt: skip
            self._loras = LoraFetcher(
                public, self.store, loras,
                nsfw=self._config.nsfw, budget_bytes=self._config.lora_cache_bytes,
                wait_limit_s=self._config.download_timeout, hosts=self._hosts,
            )  # fmt: skip
            stack.push_async_callback(self._loras.close)
            if self._custom_file is not None:
                await asyncio.to_thread(write_custom_file, self._custom_file, self._custom.records.values())
            tasks = [
                asyncio.create_task(self._keep_complete(own, models), name="models"),
                asyncio.create_task(self._log_progress(), name="models-report"),
            ]
            try:
                yield self
            finally:
                await end_all([*tasks, *self._mending])

    async def _keep_complete(self, own: httpx.AsyncClient, downloader: Downloader) -> None:
        """Round after round: at once when something changed, after a pause where another try may help."""
        pause_s = self._times.retry_s
        # What is on disk is served before any host has answered.
        with contextlib.suppress(WorkerError):
            selection = await self._select(None)
            await asyncio.gather(self._adopt(selection), asyncio.to_thread(self._read_auxiliary))
        while True:
            self._changed.clear()
            try:
                done = await self._unless_changed(self._round(own, downloader))
            except Exception:  # a defect here must not cost the models that are served
                logger.exception("A defect in the model manager")
                done = True
                self._retry.add("a defect")
            if done and not self._retry:
                await self._changed.wait()
            elif done and await self._unless_changed(asyncio.sleep(pause_s)):
                pause_s = min(2 * pause_s, self._times.retry_limit_s)
                continue
            pause_s = self._times.retry_s

    async def _unless_changed(self, what: Awaitable[object]) -> bool:
        """Whether it ended before `_changed` was set; else it is cancelled."""
        async with meanwhile(what, self._changed.wait()) as (task, changed):
            await asyncio.wait((task, changed), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return True
            return False

    async def _round(self, own: httpx.AsyncClient, downloader: Downloader) -> None:
        """Choose the models again, serve those that are complete, fetch the others."""
        self._retry.clear()
        trouble: tuple[str, ...] = ()
        try:
            selection = await self._select(own)
        except WorkerError as error:
            known = "the models known so far" if self._reference.images else "your custom models"
            # Without the reasons of each list, which are in the log.
            trouble = (f"Only {known} are served, for the model lists can't be read. {error.remedy}".rstrip(),)
            logger.bind(action="model_lists_unavailable").error("Only {} are served: {}", known, error)
            self._retry.add("the model lists")
            selection = await self._select(None, self._reference)
        self._doubts = (*trouble, *selection.warnings)
        selection, missing = await self._adopt(selection)
        for warning in selection.warnings:
            self._warn_once(warning)
        logger.bind(action="models_chosen").info("{}.", self.state())
        await self._fetch(selection, missing, downloader)

    async def _select(self, http: httpx.AsyncClient | None, reference: Reference | None = None) -> ModelSelection:
        entries = (*self._config.models_to_load, *self._config.models_to_skip)
        lists = reference or await load_lists(self._config, self.store.root, http)
        month = await load_month(self._config, self.store.root, http, entries)
        if month is None and needs_statistics(entries):
            self._retry.add("the month's statistics")
        wanted = None if lists.images else ()
        return choose(self._config, lists, self._custom, month=month, wanted=wanted)

    async def _adopt(
        self, selection: ModelSelection
    ) -> tuple[ModelSelection, dict[ModelRecord, tuple[MissingFile, ...]]]:
        """Want these models from now on, as far as demand is for them, and serve the complete ones.

        Returns what is wanted, and the missing files of each usable model.
        """
        self.store.refresh()
        wanted = await asyncio.to_thread(
            wanted_by_demand, self._config, selection, self.store.is_complete, granted=self._granted
        )
        selection, self._absent = wanted.selection, wanted.absent
        self._reference, self._named = selection.reference, selection.resolution.named
        known, self._models = self._models, {}
        for record in selection.records:
            self._models[record.name] = known.get(record.name) or ManagedModel(record)
            self._models[record.name].record = record
        missing: dict[ModelRecord, tuple[MissingFile, ...]] = {}
        for model in list(self._models.values()):
            found = await self._examine(model)
            if found is not None:
                missing[model.record] = found
        return selection, missing

    async def _examine(self, model: ManagedModel) -> tuple[MissingFile, ...] | None:
        """Serve the model if it is complete. Returns its missing files, None when it must not be used."""
        return self._apply(model, await asyncio.to_thread(self.store.served, model.record))

    def _apply(
        self, model: ManagedModel, served: ServedModel | tuple[MissingFile, ...]
    ) -> tuple[MissingFile, ...] | None:
        # Engines may have found it unreadable while its files were looked at.
        if model.unreadable >= MAX_UNREADABLE:
            self._fail(model, model.flaw or unreadable_reason(model.record))
            return None
        if isinstance(served, ServedModel):
            model.served, model.reason = served, ""
            # Whoever checks it now decides when it is offered again.
            if model.state is not ModelState.CHECKING:
                model.state = ModelState.READY
            return ()
        model.state, model.served, model.reason = ModelState.WAITING, None, ""
        return served

    async def _fetch(
        self,
        selection: ModelSelection,
        missing: Mapping[ModelRecord, tuple[MissingFile, ...]],
        downloader: Downloader,
    ) -> None:
        beside = await asyncio.to_thread(auxiliary_records, self.store, self._config, selection)
        plan = await asyncio.to_thread(
            plan_downloads, self.store, missing, beside, reserve_bytes=self._times.reserve_bytes
        )
        for record, error in plan.refused.items():
            self._missed(record, error)
            if not isinstance(error, DiskFull):
                self._warn_once(f"{record.name} can't be fetched: {error}", action="model_unavailable")
        if unlisted := await asyncio.to_thread(unlisted_files, self.store, self._config, selection):
            self._warn_once(
                f"No model list has an address of {', '.join(unlisted)}: what needs them is not offered until they are "
                "in their folders.",
                action="files_unlisted",
            )
        if plan.without_room:
            self._warn_once(plan.room_warning, action="disk_full", key="disk full")
        await downloader.keep_only({download.target for download in plan.downloads})
        self._report.plan(plan.known_bytes)
        if plan.downloads:
            logger.bind(action="download_plan").info("Models: {}.", plan)
        await fetch_planned(self.store, plan, downloader, on_ready=self._arrived, on_failed=self._missed)

    def _arrived(self, record: ModelRecord) -> None:
        if record.category is Category.IMAGE:
            # Quick: its files were examined a moment ago.
            self._apply(self._managed(record), self.store.served(record))

    def _missed(self, record: ModelRecord, error: WorkerError) -> None:
        self._fail(self._managed(record), str(error))
        if error.retry is not Retry.NO:
            self._retry.add(record.name)
        elif (
            all(model.state is ModelState.FAILED for model in self._models.values())
            and self.fetchable()
            and len(self._granted) < MOST_UNASKED
        ):
            # With nothing to offer demand has no say: the next of the list. This one stays in it, failed.
            self._granted.add(record.name)
            self.fetch(self.fetchable()[0])

    def _warn_once(self, text: str, *, action: str = "models_warning", key: str = "") -> None:
        """Log `text`, unless a text with the same key, or the same text, was logged since the settings changed."""
        if (key or text) not in self._warned:
            self._warned.add(key or text)
            logger.bind(action=action).warning("{}", text)

    def _managed(self, record: ModelRecord) -> ManagedModel:
        return self._models.setdefault(record.name, ManagedModel(record))

    @staticmethod
    def _fail(model: ManagedModel, reason: str) -> None:
        model.state, model.served, model.reason = ModelState.FAILED, None, reason

    async def _mend(self, request: RenderRequest, model: ManagedModel, blame: ModelBroken | AdditionBroken) -> None:
        """Find the broken file. What is renamed is fetched again by the next round, which starts now."""
        name = model.record.name
        try:
            files = model.record.files if isinstance(blame, ModelBroken) else ()
            own = [await repair(self.store, file) for file in files]
            others = [await self._loras.mend(lora.file) for lora in request.loras] if self._loras else []
            with contextlib.suppress(JobError, KeyError):
                others += [
                    await repair(self.store, as_model_file(file, self._reference)) for file in needs(request, self.has)
                ]
        except (WorkerError, OSError) as error:
            # It stays on disk; its wrong checksum is known now, and a copy in the own tree takes precedence over it.
            logger.bind(action="model_broken", model=name).error("{} can't be renamed: {}", name, error)
            own, others = [True], []
        finally:
            if model.state is ModelState.CHECKING:
                model.state = ModelState.READY
        if any((*own, *others)):
            if any(own):
                model.state, model.served = ModelState.WAITING, None
            self._changed.set()
            return
        if isinstance(blame, AdditionBroken) and self._loras and len(blame.additions) == 1:
            for addition in blame.additions:
                await self._loras.note_broken(Kind(addition.kind.value), addition.file, blame.message)
        if not isinstance(blame, ModelBroken) or blame.file not in ("", *request.model.files.values()):
            return
        model.unreadable += 1
        if after_fault(blame).sets_aside is SetsAside.MODEL:
            model.unreadable, model.flaw = MAX_UNREADABLE, blame.message.rstrip(".")
        if model.unreadable >= MAX_UNREADABLE:
            await self._examine(model)
            logger.bind(action="model_unreadable", model=name).error(
                "{} is not offered any more: {}. Change models_to_load, or restart, to try it again.",
                name, model.reason,
            )  # fmt: skip

    def _read_auxiliary(self) -> None:
        """Read the headers of all auxiliary files, so that `has` need not do it on the event loop."""
        for file in all_files():
            self.store.check(as_model_file(file))

    async def _log_progress(self) -> None:
        while True:
            await asyncio.sleep(self._times.report_s)
            if self._report.downloads:
                logger.bind(action="download_progress").info("{}.", self.state())
