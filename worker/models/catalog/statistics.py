"""How many images the Horde made with each model in the past month: what TOP and BOTTOM go by."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx
from loguru import logger

from worker.errors import HordeUnreachable
from worker.models.catalog.cache_file import read_json, write_json
from worker.models.catalog.fetch import fetch_json

#: Seconds for the answer; the config load waits for it.
TIMEOUT_S: Final = 15.0
#: The server counts anew once a day, so an hour-old table is as good as a new one.
FRESH_S: Final = 3600.0
#: The cache's name, beside the model reference's.
CACHE_FILE: Final = "statistics.cached.json"


@dataclass(frozen=True)
class MonthStatistics:
    """Images per model. `age_s` is how old the table is."""

    month: Mapping[str, int]
    age_s: float = 0.0


def read_month(data: Any) -> Mapping[str, int]:
    """The month's table of a statistics answer. Nameless and uncounted models are dropped.

    Raises ValueError when there is no such table.
    """
    month = data.get("month") if isinstance(data, dict) else None
    if not isinstance(month, dict):
        raise ValueError("the statistics have no month")  # noqa: TRY004 - bad data, not a bad call
    return MappingProxyType(
        {
            name: int(count)
            for name, count in month.items()
            if name.strip() and name != "None" and isinstance(count, int | float) and count >= 0
        }
    )


async def fetch_month(
    http: httpx.AsyncClient,
    horde_url: str,
    cache_folder: Path,
    *,
    timeout_s: float = TIMEOUT_S,
    fresh_s: float = FRESH_S,
) -> MonthStatistics | None:
    """The month's table from the Horde, else as last fetched; None when there is neither."""
    path = cache_folder / CACHE_FILE
    kept = cached_month(cache_folder)
    if kept and kept.age_s < fresh_s:
        return kept
    url = f"{horde_url.rstrip('/')}/v2/stats/img/models?model_state=known"
    try:
        month = read_month((await fetch_json(http, url, timeout_s=timeout_s)).data)
    except (HordeUnreachable, ValueError) as error:
        consequence = (
            f"those of {kept.age_s / 3600:.0f} hours ago are used" if kept else "TOP and BOTTOM choose nothing"
        )
        logger.bind(action="statistics_unavailable").warning("No model statistics, so {}: {}", consequence, error)
        return kept
    try:
        write_json(path, {"month": dict(month)})
    except OSError as error:
        logger.bind(action="statistics_not_kept").warning("Model statistics can't be kept at {}: {}", path, error)
    return MonthStatistics(month)


def cached_month(cache_folder: Path) -> MonthStatistics | None:
    """The month's table as last fetched, None where it never was."""
    path = cache_folder / CACHE_FILE
    try:
        return MonthStatistics(read_month(read_json(path)), max(0.0, time.time() - path.stat().st_mtime))
    except (OSError, ValueError):
        return None
