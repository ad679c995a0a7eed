"""Connections to public addresses only, whatever a link, a redirect or a name server says.

The check sits in the transport, so that every hop of a redirect passes it, and the connection goes to the very
address that was checked: a name that resolves differently a moment later changes nothing. A proxy resolves names by
itself; then it connects by name.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

import httpx

from worker.errors import WorkerError

#: host, port → the addresses it has
Resolve = Callable[[str, int], Awaitable[list[str]]]


class AddressRefused(WorkerError):
    """The address is not one this worker connects to; trying again gives the same answer."""


class PublicTransport(httpx.AsyncBaseTransport):
    """Lets requests through to http(s) on public addresses, and to any address when `private` is allowed."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport | None = None,
        *,
        private: bool = False,
        proxy: str | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._inner = inner or httpx.AsyncHTTPTransport(retries=1, proxy=proxy)
        self._private = private
        self._by_proxy = proxy is not None
        self._resolve = resolve or resolve_host

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises AddressRefused, or httpx's errors."""
        url = request.url
        if url.scheme not in {"http", "https"}:
            raise AddressRefused(f"{url.scheme}:// is no address this worker fetches from.")
        if not self._private:
            address = await self._check(url.host, url.port or (443 if url.scheme == "https" else 80))
            if not self._by_proxy:
                request.extensions = {**request.extensions, "sni_hostname": url.host}
                request.url = url.copy_with(host=address)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _check(self, host: str, port: int) -> str:
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise httpx.ConnectError(f"{host} has no address: {error}") from error
        if not addresses:
            raise httpx.ConnectError(f"{host} has no address")
        for address in addresses:
            if not is_public(address):
                raise AddressRefused(
                    f"{host} is at {address}, which is no public address.",
                    remedy="Allow private addresses in the config if this is a server of your own.",
                )
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet at large, also when it is wrapped in IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        ip = wrapped or ip
    return ip.is_global and not ip.is_multicast


async def resolve_host(host: str, port: int) -> list[str]:
    """All addresses of a name, as the system tells them. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
