"""JSON documents: small files on disk, and answers of hosts that are kept on disk for times without network."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import httpx
from loguru import logger

from worker.aio import timeout
from worker.errors import DownloadError, DownloadRefused, HostUnreachable, InputRefused
from worker.untrusted.http_body import IDENTITY, read_body
from worker.untrusted.json_reader import JsonBounds, read_json_aside, read_json_file
from worker.untrusted.retry_after import is_final_no
from worker.whole_file import write_whole

#: Most bytes of an answer. The largest document asked for is the list of image models, with 220 KB.
MAX_BYTES: Final = 32 * 1024**2
_BOUNDS: Final = JsonBounds(max_bytes=MAX_BYTES, max_values=1_000_000)

T = TypeVar("T")


@dataclass(frozen=True)
class Kept(Generic[T]):
    """A document as read. `source` is its address, `age_s` the seconds since a server last confirmed it."""

    value: T
    source: str
    age_s: float = 0.0
    etag: str = ""


def write_json(path: Path, data: Any, *, indent: int | None = None) -> None:
    """Replace the file in one step, so that a crash leaves the old or the new one. Raises OSError."""
    write_whole(path, json.dumps(data, indent=indent))


def read_json(path: Path) -> Any:
    """The file's content; None when it is absent, unreadable or not JSON."""
    try:
        return read_json_file(path, _BOUNDS)
    except (OSError, InputRefused):
        return None


async def fetch_json(http: httpx.AsyncClient, url: str, *, timeout_s: float) -> Any:
    """GET a JSON document, following redirects. Raises HostUnreachable, or DownloadRefused for a final no."""
    data, _ = await _fetch(http, url, etag="", timeout_s=timeout_s)
    return data


def read_kept(path: Path, parse: Callable[[Any], T]) -> Kept[T] | None:
    """The document last kept at `path`; None where there is none that `parse` accepts."""
    entry = read_json(path)
    if not isinstance(entry, dict) or not {"url", "data"} <= entry.keys():
        return None
    try:
        # A date in the future is of a clock that was wrong: what bears it is not fresh until that day.
        age_s = abs(time.time() - path.stat().st_mtime)
        return Kept(parse(entry["data"]), str(entry["url"]), age_s, str(entry.get("etag") or ""))
    except (OSError, ValueError):
        return None


async def fetch_kept(
    http: httpx.AsyncClient,
    path: Path,
    urls: Iterable[str],
    parse: Callable[[Any], T],
    *,
    fresh_s: float,
    timeout_s: float,
) -> Kept[T]:
    """The document at the first of `urls` that answers with what `parse` accepts, else as last kept at `path`.

    What is kept and younger than `fresh_s` is used without a question. `parse` raises ValueError for what it can't
    use. Raises DownloadError when no address answers and nothing is kept.
    """
    urls = tuple(urls)
    kept = await asyncio.to_thread(read_kept, path, parse)
    if kept and kept.source in urls and kept.age_s < fresh_s:
        return kept
    failures: list[str] = []
    for url in urls:
        etag = kept.etag if kept and kept.source == url else ""
        try:
            data, etag = await _fetch(http, url, etag=etag, timeout_s=timeout_s)
            if data is None and kept:
                await asyncio.to_thread(path.touch)
                return Kept(kept.value, url)
            value = parse(data)
        except (DownloadError, ValueError) as error:
            failures.append(error.message if isinstance(error, DownloadError) else f"{url}: {error}.")
            continue
        try:
            await asyncio.to_thread(write_json, path, {"url": url, "etag": etag, "data": data})
        except OSError as error:
            logger.bind(action="document_not_kept").warning("{} can't be written: {}", path, error)
        return Kept(value, url)
    if kept is None:
        raise HostUnreachable(" ".join(failures))
    logger.bind(action="document_outdated").warning(
        "{} is used as it was {:.0f} hours ago: {}", path.name, kept.age_s / 3600, " ".join(failures)
    )
    return kept


async def _fetch(http: httpx.AsyncClient, url: str, *, etag: str, timeout_s: float) -> tuple[Any, str]:
    """The document and its etag. The document is None when the server says that what `etag` names is current."""
    headers = IDENTITY | ({"if-none-match": etag} if etag else {})
    try:
        async with timeout(timeout_s), http.stream("GET", url, headers=headers, follow_redirects=True) as response:
            status = response.status_code
            if status == httpx.codes.NOT_MODIFIED and etag:
                return None, etag
            if status != httpx.codes.OK:
                kind = DownloadRefused if is_final_no(status) else HostUnreachable
                raise kind(f"{url} answers {status}.", status=status)
            body = await read_body(response, max_bytes=MAX_BYTES)
            return await read_json_aside(body, _BOUNDS), response.headers.get("etag", "")
    except TimeoutError as error:
        raise HostUnreachable(f"{url} gives no whole answer within {timeout_s:g} s.") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        # UnicodeError: from httpx, at a host such as xn--a, which is no international name.
        raise HostUnreachable(f"{url} can't be reached: {str(error) or type(error).__name__}.") from error
    except InputRefused as error:
        raise HostUnreachable(f"{url} sends what can't be read: {error.message}") from error
