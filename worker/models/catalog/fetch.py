"""One JSON document from the network: bounded in size and time, fetched again only when it has changed."""

import json
from dataclasses import dataclass
from typing import Any, Final

import httpx

from worker.aio import timeout
from worker.errors import HordeUnreachable

#: The image reference has 220 KB; nothing asked for here comes near this.
MAX_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True)
class Document:
    """An answer. `data` is None when the server says that what `etag` stands for is still right."""

    data: Any
    etag: str


async def fetch_json(http: httpx.AsyncClient, url: str, *, etag: str = "", timeout_s: float) -> Document:
    """GET a JSON document, following redirects. Raises HordeUnreachable for anything but a whole one in time."""
    headers = {"if-none-match": etag} if etag else {}
    try:
        async with timeout(timeout_s), http.stream("GET", url, headers=headers, follow_redirects=True) as response:
            if response.status_code == httpx.codes.NOT_MODIFIED and etag:
                return Document(None, etag)
            if response.status_code != httpx.codes.OK:
                raise HordeUnreachable(f"{url} answers {response.status_code}.", status=response.status_code)
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise HordeUnreachable(f"{url} sends more than {MAX_BYTES} bytes.")
            return Document(json.loads(body), response.headers.get("etag", ""))
    except TimeoutError as error:
        raise HordeUnreachable(f"{url} gives no whole answer within {timeout_s:g} s.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise HordeUnreachable(f"{url} can't be reached: {str(error) or type(error).__name__}.") from error
    except (ValueError, RecursionError) as error:
        raise HordeUnreachable(f"{url} sends no JSON: {error}.") from error
