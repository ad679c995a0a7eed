"""The list of releases and an archive, over the network: bounded in size and time, the archive checked by its hash."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx

from worker.aio import timeout
from worker.errors import DownloadFailed, DownloadRefused, FileBroken, HostUnreachable, InputRefused
from worker.horde.http import is_loopback
from worker.models.catalog.documents import fetch_json
from worker.untrusted.http_body import IDENTITY, SlowWatch, iter_body, refuse_length
from worker.update.releases import Offer

LIST_LIMIT_S: Final = 20.0
ARCHIVE_LIMIT_S: Final = 900.0
#: Slower than this for so long is a connection that drips.
LEAST_BYTES_PER_S, WINDOW_S = 2_000.0, 30.0

Tell = Callable[[int, int], None]


async def _only_https(request: httpx.Request) -> None:
    """Code is fetched over https alone, or from this very machine; redirections included."""
    if request.url.scheme != "https" and not is_loopback(str(request.url)):
        raise DownloadRefused(f"{request.url.host} is asked over http, and code comes over https alone.")


def client() -> httpx.AsyncClient:
    """For the fetches here. Close it."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(30.0), follow_redirects=True, max_redirects=5, event_hooks={"request": [_only_https]}
    )


async def fetch_list(http: httpx.AsyncClient, source: str) -> Any:
    """The list of releases as it is sent. Raises DownloadError."""
    return await fetch_json(http, source, timeout_s=LIST_LIMIT_S)


async def fetch_archive(http: httpx.AsyncClient, offer: Offer, target: Path, tell: Tell) -> None:
    """The archive, whole and of the announced size and hash. Raises DownloadError, OSError; then nothing is left."""
    digest, count, slow = hashlib.sha256(), 0, SlowWatch(LEAST_BYTES_PER_S, WINDOW_S)
    try:
        async with timeout(ARCHIVE_LIMIT_S), http.stream("GET", offer.url, headers=IDENTITY) as response:
            if response.status_code != httpx.codes.OK:
                raise DownloadRefused(f"{offer.url} answers {response.status_code}.", status=response.status_code)
            refuse_length(response, offer.size)
            with target.open("wb") as file:
                async for piece in iter_body(response, max_bytes=offer.size):
                    file.write(piece)
                    digest.update(piece)
                    count += len(piece)
                    tell(count, offer.size)
                    if why := slow.drips(len(piece)):
                        raise DownloadFailed(f"{offer.url} is too slow: {why}.")
                file.flush()
                os.fsync(file.fileno())
        if count != offer.size:
            raise DownloadFailed(f"{offer.url} broke off after {count} of {offer.size} bytes.")
        if digest.hexdigest() != offer.sha256:
            raise FileBroken(
                f"{offer.url} is not the announced file: its SHA-256 differs.",
                remedy="Try again later; if it stays so, report it and install nothing by hand.",
            )
    except BaseException as error:
        target.unlink(missing_ok=True)  # noqa: ASYNC240 - one file
        if isinstance(error, TimeoutError):
            raise HostUnreachable(f"{offer.url} was not there within {ARCHIVE_LIMIT_S:.0f} s.") from error
        if isinstance(error, (httpx.HTTPError, httpx.InvalidURL)):
            raise HostUnreachable(f"{offer.url} can't be reached: {str(error) or type(error).__name__}.") from error
        if isinstance(error, InputRefused):
            raise FileBroken(f"{offer.url} is larger than announced, or packed: {error.message}") from error
        raise
