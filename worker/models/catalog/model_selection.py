"""The models that the owner's settings choose, and what is needed to choose: lists and the month's statistics."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from loguru import logger

from worker.config.schema import BridgeData
from worker.errors import ConfigError
from worker.models.catalog.baselines import fetch_and_learn, learn_kept
from worker.models.catalog.custom import FILE_NAME as CUSTOM_FILE
from worker.models.catalog.custom import CustomModels, read_custom_file, read_custom_models, shadowed, with_custom
from worker.models.catalog.documents import read_json
from worker.models.catalog.model_commands import Resolution, needs_statistics, resolve
from worker.models.catalog.records import ModelRecord
from worker.models.catalog.reference import (
    BETA_SOURCE,
    CACHE_FOLDER,
    SOURCES,
    Reference,
    fetch_reference,
    read_cache,
    read_folder,
)
from worker.models.catalog.statistics import cached_month, fetch_month, read_month
from worker.models.disk.store import Store
from worker.owner_path import owner_path
from worker.workflows import families

#: In a folder that `model_reference` names: the statistics answer of the Horde.
STATISTICS_FILE: Final = "statistics.json"
#: Environment variable with the path of the owner's own `custom_models.json`, as for reGen's engine.
CUSTOM_VARIABLE: Final = "HORDELIB_CUSTOM_MODELS"


@dataclass(frozen=True)
class ModelSelection:
    """`records`: the models to serve, in the owner's order. `known`: all models, the owner's own included."""

    reference: Reference
    known: Mapping[str, ModelRecord]
    resolution: Resolution
    #: sentences for the owner
    warnings: tuple[str, ...] = ()

    @property
    def records(self) -> tuple[ModelRecord, ...]:
        return tuple(self.known[name] for name in self.resolution.load)


def know_families(config: BridgeData) -> None:
    """Make the owner's families known, which must be before models of their baselines are read."""
    if config.workflows_dir is not None:
        families.load(config.workflows_dir)


def custom_of(config: BridgeData, environment: Mapping[str, str]) -> CustomModels:
    """The owner's own models: those of the settings, and those of the file that `CUSTOM_VARIABLE` names."""
    know_families(config)
    own = read_custom_models([entry.model_dump() for entry in config.custom_models])
    if not (named := environment.get(CUSTOM_VARIABLE)):
        return own
    more = read_custom_file(owner_path(named))
    return CustomModels({**more.records, **own.records}, (*own.warnings, *more.warnings))


def store_of(config: BridgeData, root: Path, custom: CustomModels) -> Store:
    """The owner's model folders."""
    extra = [owner_path(folder) for folder in config.extra_stable_diffusion_models_folders]
    return Store(root, extra, custom.records.values())


def custom_file_of(environment: Mapping[str, str]) -> Path | None:
    """Path to write `custom_models.json` to; None where `CUSTOM_VARIABLE` names one that the owner writes."""
    return None if environment.get(CUSTOM_VARIABLE) else Path.cwd() / CUSTOM_FILE


async def load_lists(config: BridgeData, root: Path, http: httpx.AsyncClient | None) -> Reference:
    """The model lists from the source the settings name; without `http` as last fetched, which may be empty.

    Raises ConfigError for a folder without lists, HostUnreachable when no host answers and no list is cached.
    """
    place, branch = config.model_reference, config.model_reference_branch or ""
    if folder := _own_folder(config):
        return await asyncio.to_thread(read_folder, folder, beta=bool(branch))
    if http is None:
        await asyncio.to_thread(learn_kept, root / CACHE_FOLDER)
        return await asyncio.to_thread(read_cache, root / CACHE_FOLDER, beta=bool(branch))
    sources: tuple[str, ...] = SOURCES
    beta_source = BETA_SOURCE
    if place:
        base = place.rstrip("/").replace("{", "{{").replace("}", "}}")
        sources, beta_source = (f"{base}/{{name}}.json",), f"{base}/{{name}}.beta.json"
    else:
        # Before the lists: their records go by the names that it brings.
        await fetch_and_learn(http, root / CACHE_FOLDER)
    return await fetch_reference(
        http, root / CACHE_FOLDER, beta_branch=branch, sources=sources, beta_source=beta_source
    )


async def load_month(
    config: BridgeData, root: Path, http: httpx.AsyncClient | None, entries: Sequence[str]
) -> Mapping[str, int] | None:
    """Model → images of the month if an entry ranks by them; else None, as when they are not available."""
    if not needs_statistics(entries):
        return None
    folder = _own_folder(config)
    if folder and (own := await asyncio.to_thread(read_json, folder / STATISTICS_FILE)):
        try:
            return read_month(own)
        except ValueError as error:
            logger.bind(action="statistics_unusable").warning("{} is not used: {}", folder / STATISTICS_FILE, error)
    if http is not None:
        return await fetch_month(http, config.horde_url, root / CACHE_FOLDER)
    return await asyncio.to_thread(cached_month, root / CACHE_FOLDER)


def choose(
    config: BridgeData,
    reference: Reference,
    custom: CustomModels,
    *,
    month: Mapping[str, int] | None,
    wanted: Sequence[str] | None = None,
) -> ModelSelection:
    """Resolve `wanted`, or the settings' `models_to_load`, among the lists and the owner's own models. Pure."""
    known = with_custom(reference.images, custom)
    resolution = resolve(
        config.models_to_load if wanted is None else wanted,
        config.models_to_skip,
        known,
        month=month,
        large=config.load_large_models,
    )
    warnings = (*custom.warnings, *shadowed(reference.images, custom), *resolution.warnings)
    return ModelSelection(reference, known, resolution, warnings)


def select_from_cache(config: BridgeData, root: Path, custom: CustomModels) -> ModelSelection:
    """The models that the settings choose, with lists and statistics as last fetched. Fetches nothing."""
    reference = read_cache(root / CACHE_FOLDER, beta=True)
    if folder := _own_folder(config):
        with contextlib.suppress(ConfigError):
            reference = read_folder(folder, beta=True)
    return choose(config, reference, custom, month=cached_month(root / CACHE_FOLDER))


def _own_folder(config: BridgeData) -> Path | None:
    place = config.model_reference
    is_address = place and place.casefold().startswith(("https://", "http://"))
    return owner_path(place) if place and not is_address else None
