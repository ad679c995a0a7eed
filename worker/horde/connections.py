"""Connections to one kind of peer, so many at most.

Each is a client of its own, the last used is used next. One pool for all of them would cost more with every connection
in it: httpcore looks at each of them whenever a request comes or goes.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from worker.aio import to_the_end
from worker.horde.limits import Limits

#: Of one client: a second one, so that a peer with two addresses in turn is not greeted anew each time.
_EACH = 2


class Connections:
    """Close with `aclose` when no request is under way."""

    def __init__(self, limits: Limits, *, proxies: bool, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`proxies`: the environment's hold. `transport` takes the place of the network."""
        self._options: dict[str, Any] = {
            "timeout": limits.timeout(),
            "limits": httpx.Limits(
                max_connections=_EACH, max_keepalive_connections=_EACH, keepalive_expiry=limits.idle_connection_s
            ),
            "trust_env": proxies,
            "transport": transport,
            "verify": _trust(proxies),
        }
        self._places = asyncio.Semaphore(limits.connections)
        self._clients: list[httpx.AsyncClient] = []
        self._free = [self._open()]

    def build_request(self, method: str, url: str, **content: Any) -> httpx.Request:
        """What httpx.AsyncClient makes of the same."""
        return self._clients[0].build_request(method, url, **content)

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """Send, when a connection is free, and read the response within the block. Raises httpx.RequestError."""
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


@cache
def _trust(environment: bool) -> ssl.SSLContext:
    """Reading all the certificates of the world takes a tenth of a second: once is enough."""
    return httpx.create_ssl_context(trust_env=environment)


def is_loopback(url: str) -> bool:
    """Whether a web address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
