"""From chosen models to files on disk: which files are wanted, which are missing, what fits, and fetching them.

Models are fetched in the owner's order, so that the first is served while the others are still to come. A model that
can't be fetched costs only itself.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from worker.aio import TaskGroup, ungrouped
from worker.config.schema import BridgeData
from worker.errors import DiskFull, DownloadError, DownloadFailed, DownloadRefused, FileBroken, WorkerError
from worker.models.by_demand import wanted_by_demand
from worker.models.catalog.model_selection import ModelSelection
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose
from worker.models.catalog.reference import Reference
from worker.models.disk.store import MissingFile, Store
from worker.models.download.downloader import Download, Downloader, estimate_bytes
from worker.units import GIB, listed
from worker.workflows.auxiliary_files import AESTHETIC, ANNOTATORS, Has, controlnets, of_feature
from worker.workflows.families import TRAITS, AuxiliaryFile
from worker.workflows.types import Family, Feature

#: Seconds that one model has the whole bandwidth; then the next one is fetched beside it.
ALONE_S: Final = 900.0
ROOM_REMEDY: Final = "Free disk space, set cache_home to another disk, or load fewer models."
#: Names that one sentence lists.
MAX_LISTED: Final = 5
_POST_PROCESSING: Final = (Feature.FACE_FIX, Feature.UPSCALE, Feature.STRIP_BACKGROUND)
_CATEGORIES: Final = {category.value: category for category in Category}


@dataclass(frozen=True)
class DownloadPlan:
    """What to fetch, in this order. `refused`: why a record can't be fetched (no room, no address)."""

    #: model or auxiliary file → the files that it lacks
    records: Mapping[ModelRecord, tuple[Download, ...]]
    refused: Mapping[ModelRecord, DownloadError]
    known_bytes: int
    #: files whose size is unknown until their download begins
    unknown_files: int
    free_bytes: int

    @property
    def downloads(self) -> tuple[Download, ...]:
        """All files, each once."""
        return tuple({str(each.target): each for lacking in self.records.values() for each in lacking}.values())

    def __str__(self) -> str:
        count = len(self.downloads)
        if not count:
            return "nothing to download"
        total, free = self.known_bytes / GIB, self.free_bytes / GIB
        files = f"{count} file{'s' if count > 1 else ''}"
        if self.unknown_files == count:
            return f"{files} of unknown size to download, {free:.1f} GiB free"
        more = f" and {self.unknown_files} of unknown size" if self.unknown_files else ""
        return f"{files}, {total:.1f} GiB{more} to download, {free:.1f} GiB free"

    @property
    def without_room(self) -> tuple[str, ...]:
        """Names of the records that the disk has no room for."""
        return tuple(record.name for record, error in self.refused.items() if isinstance(error, DiskFull))

    @property
    def room_warning(self) -> str:
        """One sentence, with its remedy, about everything that the disk has no room for; "" where all fits."""
        names = self.without_room
        if not names:
            return ""
        free = f"The disk has {self.free_bytes / GIB:.1f} GiB free"
        return f"{free}, too little for {listed(names, MAX_LISTED)}. {ROOM_REMEDY}"


def wanted_files(config: BridgeData, families: Iterable[Family], has: Has) -> tuple[AuxiliaryFile, ...]:
    """The auxiliary files of everything the settings allow for models of these families, each once. Pure.

    `has`: for a ControlNet that the owner has, what makes its maps is wanted too.
    """
    served = tuple(dict.fromkeys(families))
    files: list[AuxiliaryFile] = []
    if config.allow_post_processing:
        files += [file for feature in _POST_PROCESSING for file in of_feature(feature)]
    if config.allow_controlnet:
        networks = [
            (kind, network)
            for family in served
            for kind, choices in controlnets(family).items()
            for network in choices
            if not network.own or has(network.file)
        ]
        files += [file for kind in dict.fromkeys(kind for kind, _ in networks) for file in ANNOTATORS.get(kind, ())]
        files += [network.file for _, network in networks if not network.own]
    # QR codes come without a switch, unless a model is in the list for which the server wants that one.
    traits = [TRAITS[family] for family in served]
    if config.allow_sdxl_controlnet or not any(each.qr_code_by_switch for each in traits):
        files += [each.qr_controlnet for each in traits if each.qr_controlnet]
    if config.allow_sdxl_controlnet:
        files += [file for each in traits if (both := each.layer_diffuse) for file in (both.model, both.decoder)]
    return tuple(dict.fromkeys(files))


def as_model_file(file: AuxiliaryFile, reference: Reference | None = None) -> ModelFile:
    """The auxiliary file for the store; with a reference also its address and checksum."""
    url, sha256, size = file.url, file.sha256, None
    listed_in, name = file.listed_as
    category = _CATEGORIES.get(listed_in)
    record = reference.find(category, name) if reference and category else None
    listed = next((each for each in record.files if each.name == file.name), None) if record else None
    if listed:
        url, sha256, size = listed.url, listed.sha256, listed.size
    return ModelFile(Purpose.AUXILIARY, file.name, file.folder, sha256, url, size)


def auxiliary_records(store: Store, config: BridgeData, selection: ModelSelection) -> list[ModelRecord]:
    """The auxiliary files that the settings and the chosen models need, each as a record of its own, on disk or not.

    Those without an address are left out: an owner with lists of his own decides so what is fetched. Reads headers of
    new files, so call it in a thread.
    """
    return [record for record in _wanted_records(store, config, selection) if record.files[0].url]


def unlisted_files(store: Store, config: BridgeData, selection: ModelSelection) -> tuple[str, ...]:
    """Auxiliary files that the settings need, that are not on disk, and whose address no list has: `folder/name`."""
    wanted = _wanted_records(store, config, selection)
    return tuple(each.name for each in wanted if not each.files[0].url and store.missing(each))


def _wanted_records(store: Store, config: BridgeData, selection: ModelSelection) -> list[ModelRecord]:
    families = {record.family for record in selection.records if record.family}
    files = wanted_files(config, families, lambda file: store.check(as_model_file(file)) is None)
    # Where no model is fetched, nothing that no model needs is fetched either.
    if config.aesthetic_score and any(file.url for record in selection.records for file in record.files):
        files = (*files, AESTHETIC)
    return [
        ModelRecord(
            f"{file.folder}/{file.name}",
            _CATEGORIES.get(file.listed_as[0], Category.MISCELLANEOUS),
            (as_model_file(file, selection.reference),),
        )
        for file in files
    ]


def plan_selection(store: Store, config: BridgeData, selection: ModelSelection, *, reserve_bytes: int) -> DownloadPlan:
    """What to fetch for the chosen models and the files that the settings need beside them."""
    selection = wanted_by_demand(config, selection, store.is_complete).selection
    models = {record: store.missing(record) for record in selection.records}
    return plan_downloads(store, models, auxiliary_records(store, config, selection), reserve_bytes=reserve_bytes)


def plan_downloads(
    store: Store,
    models: Mapping[ModelRecord, tuple[MissingFile, ...]],
    auxiliary: Iterable[ModelRecord],
    *,
    reserve_bytes: int,
) -> DownloadPlan:
    """What to fetch for `models`, each with its missing files, and for the auxiliary records.

    If no model is complete the first one comes first, so that there is something to serve; then the auxiliary files,
    which serve every model; then the other models. What does not fit on the disk, in this order, is refused.
    """
    incomplete = [(record, missing) for record, missing in models.items() if missing]
    first = 0 if len(incomplete) < len(models) else 1
    beside = [(record, missing) for record in auxiliary if (missing := store.missing(record))]
    free = store.free_bytes()
    left = free - reserve_bytes
    chosen: dict[ModelRecord, tuple[Download, ...]] = {}
    refused: dict[ModelRecord, DownloadError] = {}
    seen: set[Path] = set()
    known = unknown = 0
    for record, missing in (*incomplete[:first], *beside, *incomplete[first:]):
        try:
            downloads = tuple(_as_download(store, record, each) for each in missing)
        except DownloadRefused as error:
            refused[record] = error
            continue
        needed, without_size = estimate_bytes(each for each in downloads if each.target not in seen)
        if needed > left:
            refused[record] = DiskFull(
                f"{needed / GIB:.1f} GiB to download, {max(0, left) / GIB:.1f} GiB left on the disk for it.",
                remedy=ROOM_REMEDY,
            )
            continue
        left -= needed
        known += needed
        unknown += without_size
        seen |= {each.target for each in downloads}
        chosen[record] = downloads
    return DownloadPlan(chosen, refused, known, unknown, free)


async def fetch_planned(
    store: Store,
    plan: DownloadPlan,
    downloader: Downloader,
    *,
    on_ready: Callable[[ModelRecord], None],
    on_failed: Callable[[ModelRecord, WorkerError], None],
) -> None:
    """Fetch every record in order, and report each as soon as it is complete or has failed.

    A record that takes longer than `ALONE_S` no longer has the bandwidth to itself: the next one starts beside it.
    """
    with ungrouped():
        async with TaskGroup() as group:
            for record, lacking in plan.records.items():
                fetching = group.create_task(
                    _fetch_and_report(store, record, lacking, downloader, on_ready=on_ready, on_failed=on_failed)
                )
                await asyncio.wait((fetching,), timeout=ALONE_S)


async def _fetch_and_report(
    store: Store,
    record: ModelRecord,
    lacking: Iterable[Download],
    downloader: Downloader,
    *,
    on_ready: Callable[[ModelRecord], None],
    on_failed: Callable[[ModelRecord, WorkerError], None],
) -> None:
    try:
        await _fetch_record(store, record, lacking, downloader)
    except DownloadError as error:
        logger.bind(action="model_unavailable", model=record.name).error("{} can't be fetched: {}", record.name, error)
        on_failed(record, error)
    except Exception as error:  # a defect here must not cost the other models
        logger.bind(model=record.name).exception("A defect in fetching {}", record.name)
        on_failed(record, DownloadFailed(f"a defect of this worker: {error!r}."))
    else:
        logger.bind(action="model_ready", model=record.name).info("{} is complete", record.name)
        on_ready(record)


async def _fetch_record(store: Store, record: ModelRecord, lacking: Iterable[Download], downloader: Downloader) -> None:
    fetches = map(downloader.fetch, lacking)
    for result in await asyncio.gather(*fetches, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
    if missing := await asyncio.to_thread(store.missing, record):
        raise FileBroken(f"{record.name} is not usable after its download: {missing[0].reason}.")


async def repair(store: Store, file: ModelFile) -> bool:
    """After the engine failed to read a file: compare it with its checksum, and rename it if it is broken.

    Returns whether it was. Raises ConfigError for a broken file in a folder that is only read.
    """
    found = store.find(file)
    if found is None:
        return False
    store.hashes.forget(found.path)
    sha256 = await asyncio.to_thread(store.hashes.compute, found.path) if file.sha256 else None
    if sha256 == file.sha256 and not await asyncio.to_thread(store.check, file):
        return False
    store.quarantine(found.path)
    return True


def _as_download(store: Store, record: ModelRecord, missing: MissingFile) -> Download:
    file = missing.file
    if file.url is None or file.path is not None:
        raise DownloadRefused(f"{missing.reason}, and no address is known to fetch it from.")
    size = file.size or (record.size_on_disk if len(record.files) == 1 else None)
    return Download(file.url, store.target(file), file.sha256, size)
