"""`models …`: list the models of the settings, and download and verify their files."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from loguru import logger
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as ProgressBars

from worker import logs
from worker.commands.options import (
    AsJson,
    ConfigFile,
    FromEnvironment,
    Quiet,
    ReferenceFolder,
    Verbose,
    load_settings,
    settings_or_defaults,
)
from worker.commands.output import answer, answer_json, answer_table
from worker.config.environment import download_tokens
from worker.config.load import LoadedConfig
from worker.config.paths import models_root
from worker.config.schema import BridgeData
from worker.errors import ConfigError, HostUnreachable, WorkerError
from worker.models.catalog.custom import CustomModels, write_custom_file
from worker.models.catalog.model_selection import (
    ModelSelection,
    choose,
    custom_file_of,
    custom_of,
    load_lists,
    load_month,
    store_of,
)
from worker.models.catalog.records import ModelRecord
from worker.models.catalog.reference import TIMEOUT_S, Reference
from worker.models.disk.store import Store
from worker.models.download.downloader import RESERVE_BYTES, Downloader, DownloadProgress, DownloadState, open_client
from worker.models.download.transfer import Throttle
from worker.models.download_plan import auxiliary_records, fetch_planned, plan_selection
from worker.models.loras.lora_cache import purge_unknown
from worker.network_variables import check_network_variables
from worker.units import GIB
from worker.untrusted.text import visible

app = typer.Typer(help="Look at, fetch and check the models.", no_args_is_help=True)

Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing; lists and figures as last fetched.")]
Names = Annotated[list[str] | None, typer.Argument(help="Models; those of the settings if none is named.")]


#: Log lines of a download without a terminal, in percent of the file.
PERCENT_STEP = 10


@dataclass(frozen=True)
class Owner:
    """Someone's settings, and what they stand for."""

    config: BridgeData
    store: Store
    selection: ModelSelection
    custom: CustomModels


@app.command("list")
def list_(
    *,
    every: Annotated[bool, typer.Option("--all", help="Every model there is, not only those to be loaded.")] = False,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    reference: ReferenceFolder = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """The models to be loaded, with their sizes, and whether their files are there."""
    logs.set_up(None, console_level="WARNING")
    owner = _owner(settings_or_defaults(config, from_environment=from_environment), reference, offline=offline)
    records = owner.selection.known.values() if every else owner.selection.records
    rows = [_row(owner, record) for record in records]
    if as_json:
        answer_json(rows)
        return
    answer_table(
        ("model", "baseline", "GiB", "files"),
        (
            (
                row["name"],
                row["baseline"],
                f"{row['bytes'] / GIB:.1f}" if row["bytes"] else "?",
                "; ".join(row["lacks"]) or "all there",
            )
            for row in rows
        ),
    )


@app.command("resolve")
def resolve(
    commands: Annotated[
        list[str] | None, typer.Argument(help="As in models_to_load, which is taken if there are none.")
    ] = None,
    *,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    reference: ReferenceFolder = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Which models these names and commands stand for, and why."""
    logs.set_up(None, console_level="WARNING")
    loaded = settings_or_defaults(config, from_environment=from_environment)
    selection = _owner(loaded, reference, offline=offline, wanted=commands).selection
    why = dict(selection.resolution.why)
    if as_json:
        answer_json({"load": list(selection.resolution.load), "why": why})
        return
    answer_table(("model", "why"), ((name, why[name]) for name in selection.resolution.load))


@app.command("download")
def download(
    *,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    reference: ReferenceFolder = None,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge-unused-loras", help="Delete LoRAs not called as fetched ones are (Name_123.safetensors)."
        ),
    ] = False,
    directml: Annotated[int | None, typer.Option("--directml", hidden=True)] = None,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
) -> None:
    """Fetch everything the settings want; the worker does the same by itself while it runs."""
    del directml  # other workers' launchers pass it on; files are the same for every card
    logs.set_up(None, console_level=logs.level_name(verbose, quiet))
    loaded = load_settings(config, from_environment=from_environment)
    owner = _owner(loaded, reference, offline=False)
    if purge or owner.config.purge_loras_on_download:
        for path in purge_unknown(owner.store):
            logger.info("{} is deleted: it is not called as LoRAs are that were fetched for jobs.", path)
    if custom_file := custom_file_of(loaded.environment):
        write_custom_file(custom_file, owner.custom.records.values())
    failed = asyncio.run(_fetch(owner, download_tokens(owner.config, loaded.environment)))
    if failed:
        raise WorkerError(
            f"{len(failed)} could not be had: {'; '.join(f'{name}: {reason}' for name, reason in failed.items())}"
        )


@app.command("verify")
def verify(
    names: Names = None,
    *,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Read every file, also where a checksum is on record.")
    ] = False,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    reference: ReferenceFolder = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Compare the files' checksums with the Horde's lists; 1 when a file is not as it should be."""
    logs.set_up(None, console_level="WARNING")
    owner = _owner(settings_or_defaults(config, from_environment=from_environment), reference, offline=offline)
    wrong: dict[str, list[str]] = {}
    for record in _named(owner, names):
        lacks = [lack.reason for lack in owner.store.verify(record, fresh=fresh)]
        if lacks:
            wrong[record.name] = lacks
        if not as_json:
            answer(f"{record.name}: {'; '.join(lacks) or 'as it should be'}")
    if as_json:
        answer_json({"ok": not wrong, "wrong": wrong})
    if wrong:
        raise typer.Exit(1)


def _owner(
    loaded: LoadedConfig, reference: Path | None, *, offline: bool, wanted: Sequence[str] | None = None
) -> Owner:
    """The settings' models; `reference` takes the place of the settings' lists. Warnings are said."""
    config = loaded.data
    if reference is not None:
        config = config.model_copy(update={"model_reference": str(reference)})
    root = models_root(config, loaded.environment)
    custom = custom_of(config, loaded.environment)
    entries = (*(config.models_to_load if wanted is None else wanted), *config.models_to_skip)

    if not offline:
        check_network_variables(os.environ)

    async def gather() -> ModelSelection:
        async with contextlib.nullcontext() if offline else httpx.AsyncClient(timeout=TIMEOUT_S) as network:
            try:
                lists = await load_lists(config, root, network)
            except HostUnreachable as error:
                asked = config.models_to_load if wanted is None else wanted
                if not custom.records or not custom.records.keys() >= {*asked}:
                    raise
                logger.warning("{} Models of your own need no list.", error.message)
                lists = Reference({}, {})
            month = await load_month(config, root, network, entries)
        return choose(config, lists, custom, month=month, wanted=wanted)

    selection = asyncio.run(gather())
    if not selection.known:
        raise ConfigError("No model list has ever been fetched.", remedy="Leave out --offline, or name --reference.")
    for warning in selection.warnings:
        logger.warning("{}", warning)
    return Owner(config, store_of(config, root, custom), selection, custom)


def _named(owner: Owner, names: Sequence[str] | None) -> Sequence[ModelRecord]:
    """The models of these names; without any, all that the settings want, and the files beside them."""
    selection = owner.selection
    if not names:
        return [*selection.records, *auxiliary_records(owner.store, owner.config, selection)]
    if unknown := [name for name in names if name not in selection.known]:
        raise ConfigError(f"No model is called {' or '.join(map(repr, unknown))}.", remedy="See `models list --all`.")
    return [selection.known[name] for name in names]


def _row(owner: Owner, record: ModelRecord) -> dict[str, Any]:
    lacks = [lack.reason for lack in owner.store.missing(record)]
    return {
        "name": record.name, "baseline": record.baseline, "bytes": record.size, "nsfw": record.nsfw,
        "inpainting": record.inpainting, "lacks": lacks,
    }  # fmt: skip


async def _fetch(owner: Owner, tokens: dict[str, str]) -> dict[str, str]:
    """Fetch all missing files. Returns what failed, by name with the reason."""
    plan = plan_selection(owner.store, owner.config, owner.selection, reserve_bytes=RESERVE_BYTES)
    failed = {record.name: str(error) for record, error in plan.refused.items()}
    logger.info("Models: {}.", plan)
    async with open_client(private=owner.config.allow_private_downloads) as http:
        with _download_progress() as note:
            downloader = Downloader(
                http, owner.store.hashes, tokens=tokens, on_progress=note,
                throttle=Throttle(owner.config.download_bytes_per_s),
            )  # fmt: skip
            try:
                await fetch_planned(
                    owner.store, plan, downloader,
                    on_ready=lambda _: None,
                    on_failed=lambda record, error: failed.update({record.name: str(error)}),
                )  # fmt: skip
            finally:
                await downloader.close()
    return failed


@contextlib.contextmanager
def _download_progress() -> Iterator[Callable[[DownloadProgress], None]]:
    """A listener of the downloader: a bar per file on a terminal, otherwise a log line per `PERCENT_STEP`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield partial(_log_progress, {})
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with ProgressBars(*columns, console=console) as shown:
        bars: dict[Path, TaskID] = {}

        def draw(progress: DownloadProgress) -> None:
            target = progress.download.target
            if target not in bars:
                bars[target] = shown.add_task(escape(visible(target.name)))
            shown.update(bars[target], completed=progress.done, total=progress.total)
            if progress.state in (DownloadState.FAILED, DownloadState.STOPPED):
                shown.remove_task(bars.pop(target))

        yield draw


def _log_progress(logged: dict[Path, int], progress: DownloadProgress) -> None:
    """`logged`: the last step of each file that was told."""
    if progress.total and progress.state in (DownloadState.RUNNING, DownloadState.DONE):
        target, percent = progress.download.target, 100 * progress.done // progress.total
        step = percent // PERCENT_STEP
        if step > logged.get(target, -1):
            logged[target] = step
            logger.info("{}: {} %", target.name, percent)
