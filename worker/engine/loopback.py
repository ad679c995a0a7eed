"""HTTP to an engine on this machine."""

import ssl
from dataclasses import dataclass
from typing import Any

import httpx

from worker.errors import InputRefused, NodeFailed
from worker.untrusted.http_body import IDENTITY, read_body
from worker.untrusted.json_reader import JsonBounds, read_json_aside

#: The longest answer is /object_info: 2 MB, with many packs of nodes ten times as much.
ANSWER_BOUNDS = JsonBounds(max_bytes=64 * 1024 * 1024, max_values=5_000_000)
#: Trusts nobody, and is never asked: an engine speaks plain HTTP. A context of httpx's own would read all the
#: certificates of the world for each engine, and hold the event loop up for a tenth of a second.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class EngineAnswer:
    """HTTP's status and the body."""

    status_code: int
    body: bytes


def authorization(token: str) -> dict[str, str]:
    """The headers by which an engine knows its worker."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def loopback_client(url: str, *, token: str, timeout_s: float) -> httpx.AsyncClient:
    """A client of one engine, to be closed. Proxies of the environment do not count."""
    headers = authorization(token)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, trust_env=False, verify=_NO_TLS)


async def exchange(http: httpx.AsyncClient, method: str, path: str, **content: Any) -> EngineAnswer:
    """One request and its whole answer. Raises httpx.TransportError, InputRefused."""
    async with http.stream(method, path, headers=IDENTITY, **content) as response:
        return EngineAnswer(response.status_code, await read_body(response, max_bytes=ANSWER_BOUNDS.max_bytes))


async def read_object(answer: EngineAnswer) -> dict[str, Any]:
    """The JSON object in an answer. Raises NodeFailed."""
    try:
        found = await read_json_aside(answer.body, ANSWER_BOUNDS)
    except InputRefused as error:
        raise NodeFailed(f"The engine's answer can't be read: {error.message}") from error
    if not isinstance(found, dict):
        raise NodeFailed("The engine's answer is no object.")
    return found
