"""Images made with each model in the past month, as the Horde counts them: TOP and BOTTOM rank models by this."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from loguru import logger

from worker.errors import DownloadError
from worker.models.catalog.documents import fetch_kept, read_kept

#: Seconds for the answer; the choice of models waits for it.
TIMEOUT_S: Final = 15.0
#: The server counts anew once a day, so a table of the last hour is current.
FRESH_S: Final = 3600.0
#: In the folder of the model reference's cache.
CACHE_FILE: Final = "statistics.cached.json"


def read_month(data: Any) -> Mapping[str, int]:
    """Model → images of the month, from a statistics answer. Entries without a name or a count are dropped.

    Raises ValueError when there is no such table.
    """
    month = data.get("month") if isinstance(data, dict) else None
    if not isinstance(month, dict):
        raise ValueError("the statistics have no month")  # noqa: TRY004 - bad data, not a bad call
    return {
        name: int(count)
        for name, count in month.items()
        if name.strip() and name != "None" and isinstance(count, int | float) and 0 <= count < float("inf")
    }


async def fetch_month(
    http: httpx.AsyncClient, horde_url: str, cache_folder: Path, *, fresh_s: float = FRESH_S
) -> Mapping[str, int] | None:
    """The month's table from the Horde, else as last fetched; None when there is neither."""
    url = f"{horde_url.rstrip('/')}/v2/stats/img/models?model_state=known"
    path = cache_folder / CACHE_FILE
    try:
        return (await fetch_kept(http, path, (url,), read_month, fresh_s=fresh_s, timeout_s=TIMEOUT_S)).value
    except DownloadError as error:
        logger.bind(action="statistics_unavailable").warning(
            "TOP and BOTTOM choose nothing, because the Horde's statistics are not available: {}", error
        )
        return None


def cached_month(cache_folder: Path) -> Mapping[str, int] | None:
    """The month's table as last fetched; None where it never was."""
    kept = read_kept(cache_folder / CACHE_FILE, read_month)
    return kept.value if kept else None
