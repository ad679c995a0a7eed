"""The reference's catalogue of baselines: other names that they go by, and the time that the Horde gives them.

Read where it answers, and kept for times without network. It adds to what the families' files say and never decides
what a graph looks like, so that a job gives the same picture with and without it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from loguru import logger

from worker.errors import DownloadError
from worker.models.catalog.documents import fetch_kept, read_kept
from worker.workflows import families
from worker.workflows.types import Family, fold_baseline

ADDRESS: Final = "https://models.aihorde.net/api/model_references/v2/image_generation/baselines/export"
FILE: Final = "image_baselines.cached.json"
#: Baselines and other names of one that are read; characters of a name. The catalogue of 2026 has 14 with up to 12.
MAX_BASELINES, MAX_NAMES, MAX_CHARACTERS = 200, 50, 100
#: Factors of the time that make sense.
LEAST_TTL, MOST_TTL = 1.0, 100.0
TIMEOUT_S: Final = 20.0


@dataclass(frozen=True)
class Baselines:
    """Family → other names, folded; family → factor of the time that the Horde gives."""

    names: Mapping[str, tuple[str, ...]]
    ttl: Mapping[str, float]


def read_baselines(data: Any) -> Baselines:
    """The catalogue of the reference service; what makes no sense in it is left out. Raises ValueError for no list."""
    listed = data.get("baselines") if isinstance(data, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise ValueError("it lists no baselines")
    names: dict[str, tuple[str, ...]] = {}
    ttl: dict[str, float] = {}
    for name, entry in list(listed.items())[:MAX_BASELINES]:
        if not isinstance(entry, dict):
            continue
        other = entry.get("alternative_names")
        texts = [each for each in other[:MAX_NAMES] if isinstance(each, str)] if isinstance(other, list) else []
        names[name] = tuple(dict.fromkeys(fold_baseline(each[:MAX_CHARACTERS]) for each in texts if each.strip()))
        policy = entry.get("horde_policy")
        factor = policy.get("ttl") if isinstance(policy, dict) else None
        if isinstance(factor, int | float) and not isinstance(factor, bool) and math.isfinite(factor):
            ttl[name] = min(max(float(factor), LEAST_TTL), MOST_TTL)
    return Baselines(names, ttl)


def learn(found: Baselines) -> None:
    """Let the families known here go by these names too, and have this time. What the files say of names stays."""
    for name in found.names:
        if name in Family:
            family = Family(name)
            for other in found.names[name]:
                if other not in Family:
                    families.BASELINES.setdefault(other, family)
            if name in found.ttl:
                families.TRAITS[family] = families.TRAITS[family].model_copy(update={"ttl": found.ttl[name]})


def learn_kept(folder: Path) -> None:
    """The same as last fetched; nothing where nothing was."""
    if kept := read_kept(folder / FILE, read_baselines):
        learn(kept.value)


async def fetch_and_learn(http: httpx.AsyncClient, folder: Path, *, address: str = ADDRESS) -> None:
    """Ask for the catalogue; without an answer what was kept counts, or what the families' files say."""
    try:
        kept = await fetch_kept(http, folder / FILE, (address,), read_baselines, fresh_s=300.0, timeout_s=TIMEOUT_S)
    except DownloadError as error:
        logger.debug("The catalogue of baselines can't be had: {}", error)
    else:
        learn(kept.value)
