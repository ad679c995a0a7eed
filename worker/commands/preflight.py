"""What would keep a worker from serving, found before anything is started or downloaded.

`config check` and `doctor` report it, and `run` refuses to start for the same reasons in the same words.
"""

import asyncio
import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import httpx

from worker.app.build import devices_for, library_of, require_engine
from worker.app.state_dir import worker_folder
from worker.config.key_types import ANONYMOUS_KEY, CustomModel
from worker.config.load import LoadedConfig, config_files
from worker.config.paths import cache_home, models_root
from worker.config.schema import BridgeData
from worker.config.serving_keys import DEFAULT_NAME, is_public_horde
from worker.engine.install import Runtime
from worker.engine.install.machine import Accelerator, DeviceFlags, Host, detect_card
from worker.engine.install.record import Record
from worker.errors import ConfigError, WorkerError
from worker.models.catalog.custom import read_custom_models
from worker.models.catalog.model_commands import misspelt_command, needs_statistics
from worker.models.catalog.model_selection import (
    ModelSelection,
    choose,
    custom_of,
    know_families,
    load_lists,
    load_month,
    store_of,
)
from worker.models.catalog.reference import TIMEOUT_S, Reference
from worker.models.disk.store import Store
from worker.models.download.downloader import RESERVE_BYTES
from worker.models.download_plan import plan_selection
from worker.network_variables import network_problems
from worker.owner_path import owner_path
from worker.units import GIB, nearest_folder

#: Download size of the safety checker's weights, in bytes (614 MB and 1.7 GB), and their folder below cache_home.
SAFETY_WEIGHTS_BYTES, SAFETY_WEIGHTS_FOLDER = 2_300_000_000, "clip_blip"


class Rating(str, Enum):
    """How serious a finding is."""

    GOOD = "good"
    #: the worker runs, but not as well as it could
    DOUBTFUL = "doubtful"
    #: the worker cannot serve
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    subject: str
    rating: Rating
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.rating.value:<8}  {self.subject}: {self.text}" + (f" → {self.remedy}" if self.remedy else "")


def good(subject: str, text: str) -> Finding:
    return Finding(subject, Rating.GOOD, text)


def doubtful(subject: str, text: str, remedy: str = "") -> Finding:
    return Finding(subject, Rating.DOUBTFUL, text, remedy)


def bad(subject: str, text: str, remedy: str = "") -> Finding:
    return Finding(subject, Rating.BAD, text, remedy)


def failed(subject: str, error: WorkerError) -> Finding:
    """What an error says."""
    return bad(subject, error.message, error.remedy)


def refuse_bad(findings: Iterable[Finding]) -> None:
    """Raise one ConfigError for all findings that keep the worker from serving."""
    found = [finding for finding in findings if finding.rating is Rating.BAD]
    if found:
        *others, last = found
        lines = [f"{finding.text} {finding.remedy}".strip() for finding in others]
        raise ConfigError("\n".join((*lines, last.text)), remedy=last.remedy)


def check_settings(loaded: LoadedConfig) -> Iterator[Finding]:
    """The settings themselves, without a look at lists, runtime or network."""
    config = loaded.data
    if config.api_key.get_secret_value() == ANONYMOUS_KEY:
        is_set = "api_key" in loaded.written
        which = "the API key is the anonymous one" if is_set else "no API key is set; the anonymous one counts"
        no_key = f"{loaded.place('api_key')}: {which}, with which the Horde accepts no worker."
        yield bad("settings", no_key, "Get your own key at https://aihorde.net/register and set api_key.")
    if config.dreamer_name == DEFAULT_NAME and is_public_horde(config.horde_url):
        taken = f"{loaded.place('dreamer_name')}: the worker still has the template's name, which somebody else has."
        yield bad("settings", taken, "Set dreamer_name to a name of your own.")
    for problem in network_problems(os.environ):
        yield failed("network", problem)
    for sentence in loaded.warnings:
        yield doubtful("settings", sentence)
    yield from _custom_models(loaded)
    has_secret = config.api_key.get_secret_value() != ANONYMOUS_KEY or config.civitai_api_token is not None
    for file in config_files(loaded) if has_secret else ():
        if _is_readable_by_others(file):
            readable = f"{file} contains a key and can be read by other users."
            yield doubtful("settings", readable, f"Run: chmod 600 {file}")


def _custom_models(loaded: LoadedConfig) -> Iterator[Finding]:
    """Entries that cannot be used, and files that are not there. Entries without a field are among the warnings."""
    config, root = loaded.data, models_root(loaded.data, loaded.environment)
    written = loaded.written.get("custom_models")
    know_families(config)
    entries = written.value if written and isinstance(written.value, list) else config.custom_models
    for number, entry in enumerate(map(CustomModel.model_validate, entries)):
        if entry.missing:
            continue
        own = read_custom_models([entry.model_dump()])
        store = store_of(config, root, own)
        missing = (lack.reason for record in own.records.values() for lack in store.missing(record))
        for sentence in (*(warning.split(": ", 1)[-1] for warning in own.warnings), *missing):
            place = loaded.place("custom_models", number)
            yield doubtful("settings", f"{place}: custom_models: {entry.name}: {sentence}")


def _is_readable_by_others(file: Path) -> bool:
    try:
        status = file.stat()
        return os.name == "posix" and bool(status.st_mode & (stat.S_IRGRP | stat.S_IROTH)) and status.st_size > 0
    except OSError:
        return False


def check_machine(loaded: LoadedConfig, runtime: Runtime, flags: DeviceFlags, logs: Path | None) -> Iterator[Finding]:
    """Folders, engine, templates and devices. `logs` None: no logs are written."""
    config = loaded.data
    home = worker_folder(runtime.folder, loaded.environment, name=config.dreamer_name, horde_url=config.horde_url)
    weights = cache_home(config, loaded.environment)
    for name, folder in (("cache_home", weights), ("worker's", home), ("log", logs)):
        if folder is not None and (why := _not_writable(folder)):
            sentence = f"The {name} folder {folder} cannot be used: {why}."
            yield bad("folders", sentence, "Correct the path, or the permissions of the folder.")
    for extra in config.extra_stable_diffusion_models_folders:
        if not owner_path(extra).is_dir():
            yield doubtful("folders", f"extra_stable_diffusion_models_folders: there is no folder {extra}.")
    for subject, check in (
        ("engine", lambda: require_engine(config, runtime)),
        ("devices", lambda: devices_for(loaded, runtime, flags)),
    ):
        try:
            check()
        except WorkerError as error:
            yield failed(subject, error)
    try:
        mistakes = library_of(config).violations
    except WorkerError as error:
        yield failed("workflows", error)
    else:
        for mistake in mistakes:
            yield doubtful("workflows", f"workflows_dir: {mistake}.", "Run: horde-bridge workflows check")


def unused_card(config: BridgeData, runtime: Runtime, flags: DeviceFlags) -> str:
    """A card that torch was not installed for, as before its driver was there, in words; else empty.

    An owner who chose the processor, now or when it was set up, knows.
    """
    chosen = flags.cpu or config.comfyui_python or runtime.accelerator is not Accelerator.CPU
    if chosen or Record.load(runtime.state).choices.accelerator is Accelerator.CPU:
        return ""
    found = detect_card(Host())
    if found.accelerator is Accelerator.CPU:
        return ""
    return (
        f"There is {found.found}, but torch was installed without it: pictures are computed on the processor. "
        f"End the worker and run update-runtime --{found.accelerator.value}."
    )


def _not_writable(folder: Path) -> str:
    """Why a folder cannot be created or written; empty if it can."""
    if os.name == "posix" and any(re.match(r"[A-Za-z]:(\\|$)", part) for part in folder.parts):
        return "it is a path of Windows"
    try:
        nearest = nearest_folder(folder.absolute())
        if not nearest.is_dir():
            return f"{nearest} is not a folder"
        return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} is not writable"
    except OSError as error:
        return error.strerror or type(error).__name__


def check_models(loaded: LoadedConfig, *, offline: bool) -> Iterator[Finding]:
    """What models_to_load stands for, and the disk it needs. `offline`: by the lists that were last fetched."""
    config, root = loaded.data, models_root(loaded.data, loaded.environment)
    custom = custom_of(config, loaded.environment)
    lists, month, trouble = asyncio.run(_fetch_lists(loaded, root, offline=offline))
    selection = choose(config, lists, custom, month=month)
    if trouble:
        rated = doubtful if selection.records else bad
        yield rated("models", trouble.message, trouble.remedy)
    elif not lists.images or (month is None and needs_statistics(config.models_to_load)):
        not_known = "The model lists and statistics were not fetched yet, so models_to_load is not checked."
        yield doubtful("models", not_known, "Run `horde-bridge models resolve`, which fetches them.")
        for text in config.models_to_load:
            if meant := misspelt_command(text):
                sentence = f"{loaded.place('models_to_load')}: models_to_load: {text!r} may be meant as {meant!r}."
                yield doubtful("models", sentence)
    else:
        for sentence in selection.warnings:
            yield doubtful("models", sentence)
        if not selection.records:
            nothing = f"{loaded.place('models_to_load')}: models_to_load names no model that can be served."
            yield bad("models", nothing, "See `horde-bridge models list --all` for the names, or write TOP 2.")
    yield from _disk(loaded, root, selection, store_of(config, root, custom))


def _disk(loaded: LoadedConfig, root: Path, selection: ModelSelection, store: Store) -> Iterator[Finding]:
    """Bytes to download and bytes free: models, what post-processing needs, and the safety checker's weights."""
    plan = plan_selection(store, loaded.data, selection, reserve_bytes=RESERVE_BYTES)
    wanted, free = plan.known_bytes, plan.free_bytes
    if selection.records:
        yield good("models", f"{len(selection.records)} to serve; {plan}")
    if not (cache_home(loaded.data, loaded.environment) / SAFETY_WEIGHTS_FOLDER).is_dir():
        wanted += SAFETY_WEIGHTS_BYTES
    text = f"{wanted / GIB:.1f} GiB to download with the safety checker's weights, {free / GIB:.1f} GiB free in {root}"
    no_room = plan.without_room
    if no_room or wanted + RESERVE_BYTES > free:
        refused = f"; no room for {', '.join(no_room)}" if no_room else ""
        fits_nothing = len(no_room) == len(selection.records) or free < SAFETY_WEIGHTS_BYTES
        rated = bad if fits_nothing else doubtful
        yield rated("disk", text + refused, "Free disk space, set cache_home to another disk, or list fewer models.")
    else:
        yield good("disk", text)


async def _fetch_lists(
    loaded: LoadedConfig, root: Path, *, offline: bool
) -> tuple[Reference, Mapping[str, int] | None, WorkerError | None]:
    """The model lists, the month's statistics if needed, and why there are none."""
    config = loaded.data
    # Not even created offline: a client fails on a wrong proxy variable.
    async with contextlib.nullcontext() if offline else httpx.AsyncClient(timeout=TIMEOUT_S) as network:
        try:
            lists = await load_lists(config, root, network)
            month = await load_month(config, root, network, (*config.models_to_load, *config.models_to_skip))
        except WorkerError as error:
            return Reference({}, {}), None, error
    return lists, month, None
