"""One HTTP request and its answer, bounded in time and size, over a bounded number of connections.

What arrived is never thrown away: an answer that breaks off comes back with the bytes received so far and the reason,
because the ids of a popped job may stand in them.
"""

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from worker.aio import timeout, to_the_end
from worker.errors import HostUnreachable, InputRefused
from worker.horde.limits import Limits
from worker.untrusted.addresses import Hook
from worker.untrusted.http_body import iter_body, refuse_length
from worker.untrusted.http_head import bounded_head
from worker.untrusted.json_reader import QUICK_BYTES, QUICK_VALUES, JsonBounds, read_json, read_json_object
from worker.untrusted.text import redact_links

#: Connections of one client: two, so that a peer that alternates between two addresses keeps both open.
_CONNECTIONS_PER_CLIENT: Final = 2
#: An answer of the API: small enough to be parsed at once.
JSON_BOUNDS: Final = JsonBounds(max_bytes=QUICK_BYTES, max_values=QUICK_VALUES, max_depth=32)


class _NoRequestLines(logging.Filter):
    """httpx logs each request with its whole URL, presigned query included; its warnings may pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


logging.getLogger("httpx").addFilter(_NoRequestLines())


@dataclass(frozen=True)
class Answer:
    """An HTTP response, perhaps cut off: then `cut` says why the body is not whole."""

    status: int
    headers: httpx.Headers
    body: bytes
    cut: str = ""
    #: cut off by us, because it is too long or compressed
    refused: bool = False

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 - the range of HTTP's success codes

    def json_object(self) -> dict[str, Any] | None:
        """The body as JSON, or None when it is no JSON object."""
        try:
            return read_json_object(self.body, JSON_BOUNDS)
        except InputRefused:
            return None

    def json_list(self) -> list[Any] | None:
        """The body as JSON, or None when it is no JSON list."""
        try:
            found = read_json(self.body, JSON_BOUNDS)
        except InputRefused:
            return None
        return found if isinstance(found, list) else None


class Connections:
    """A bounded number of connections to one kind of peer. Close with `aclose` when no request is under way.

    Each is a client of its own, and the one used last is used next: in a single pool httpcore looks at every connection
    whenever a request comes or goes.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        proxies: bool,
        transport: httpx.AsyncBaseTransport | None = None,
        hooks: Sequence[Hook] = (),
    ) -> None:
        """`proxies`: use those of the environment. `transport` replaces the network. `hooks` see each request."""
        self._options: dict[str, Any] = {
            "timeout": limits.timeout(),
            "limits": httpx.Limits(
                max_connections=_CONNECTIONS_PER_CLIENT,
                max_keepalive_connections=_CONNECTIONS_PER_CLIENT,
                keepalive_expiry=limits.idle_connection_s,
            ),
            "trust_env": proxies,
            "transport": transport,
            "verify": _tls(proxies),
            "event_hooks": {"request": [*hooks, bounded_head]},
        }
        self._places = asyncio.Semaphore(limits.connections)
        self._clients: list[httpx.AsyncClient] = []
        self._free = [self._open()]

    def build_request(self, method: str, url: str, **content: Any) -> httpx.Request:
        """Like httpx.AsyncClient's."""
        return self._clients[0].build_request(method, url, **content)

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """Send as soon as a connection is free, and read the response within the block.

        Raises httpx.RequestError, InputRefused, AddressRefused.
        """
        async with self._places:
            client = self._free.pop() if self._free else self._open()
            try:
                response = await client.send(request, stream=True)
                try:
                    yield response
                finally:
                    await response.aclose()
            finally:
                self._free.append(client)

    def _open(self) -> httpx.AsyncClient:
        client = httpx.AsyncClient(**self._options)
        self._clients.append(client)
        return client

    async def aclose(self) -> None:
        """Close all of them, even if the caller is cancelled meanwhile."""
        await to_the_end(self._close())

    async def _close(self) -> None:
        for client in self._clients:
            await client.aclose()


async def exchange(
    connections: Connections,
    request: httpx.Request,
    *,
    max_bytes: int,
    within_s: float,
    partial: bool = True,
    on_bytes: Callable[[int], Awaitable[None]] | None = None,
) -> Answer:
    """Send once and read the answer up to `max_bytes`.

    `partial`: the beginning of an answer is of use. `on_bytes` is awaited with the number of bytes of each piece before
    the piece is kept. Raises HostUnreachable (status 0) when no answer began to arrive, AddressRefused.
    """
    response: httpx.Response | None = None
    body = bytearray()
    cut = ""
    refused = False
    try:
        async with timeout(within_s), connections.stream(request) as response:
            if not partial:
                refuse_length(response, max_bytes)
            async for piece in iter_body(response, max_bytes=max_bytes):
                if on_bytes is not None:
                    await on_bytes(len(piece))
                body += piece
    except TimeoutError:
        cut = f"no end of it within {within_s:g} s"
    except InputRefused as error:
        cut, refused = error.message.rstrip("."), True
    except httpx.RequestError as error:
        cut = _reason(error)
    if response is None:
        raise HostUnreachable(f"{request.url.host} did not answer {request.method} {request.url.path}: {cut}.")
    return Answer(response.status_code, response.headers, bytes(body), cut, refused)


@cache
def _tls(environment: bool) -> ssl.SSLContext:
    """One for all clients: reading the certificates takes a tenth of a second."""
    return httpx.create_ssl_context(trust_env=environment)


def is_loopback(url: str) -> bool:
    """Whether a web address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: httpx.RequestError) -> str:
    said = redact_links(str(error))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
