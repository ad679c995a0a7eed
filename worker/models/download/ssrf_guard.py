"""Connections to public addresses only, whatever a link, a redirect or a name server says.

Hooks of a client see every hop of a redirect. A name is looked up before it is connected to, and the other end of the
connection is looked at before anything is sent there, since a name may resolve differently a moment later. A proxy
resolves names by itself; behind one, only addresses that are written out can be refused.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from worker.errors import WorkerError

#: host, port → the addresses it has; raises OSError
Resolve = Callable[[str, int], Awaitable[list[str]]]
Hook = Callable[[httpx.Request], Awaitable[None]]


class AddressRefused(WorkerError):
    """The address is not one this worker connects to; trying again gives the same answer."""


async def only_web(request: httpx.Request) -> None:
    """A hook for a client's requests: http and https pass. Raises AddressRefused."""
    if request.url.scheme not in {"http", "https"}:
        raise AddressRefused(f"{request.url.scheme}:// is no address this worker fetches from.")


async def resolve_host(host: str, port: int) -> list[str]:
    """All addresses of a name, as the system tells them. Raises OSError."""
    # As bytes: a text would be taken for an international name, and fail with an error of its own where that can't be.
    found = await asyncio.get_running_loop().getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def only_public(resolve: Resolve = resolve_host) -> Hook:
    """A hook for a client's requests: those to public addresses pass. Raises AddressRefused."""

    async def hook(request: httpx.Request) -> None:
        host = request.url.raw_host.decode("ascii")
        if _is_address(host):
            _check(host, host)
        request.extensions = {**request.extensions, "trace": _Watch(host, resolve).see}

    return hook


class _Watch:
    """Looks on while httpx makes a connection for a request to `host`."""

    def __init__(self, host: str, resolve: Resolve) -> None:
        self._host = host
        self._resolve = resolve
        self._direct = False

    async def see(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpx tells of a request's course by its `trace` extension."""
        if event == "connection.connect_tcp.started":
            # To another host than the request's: a proxy, which the owner has set.
            self._direct = info["host"] == self._host
            if self._direct:
                await self._look_up(info["port"])
        elif event == "connection.connect_tcp.complete" and self._direct:
            stream = info["return_value"]
            try:
                _check(stream.get_extra_info("server_addr")[0], self._host)
            except AddressRefused:
                await stream.aclose()
                raise

    async def _look_up(self, port: int) -> None:
        try:
            addresses = await self._resolve(self._host, port)
        except OSError:
            return  # httpx finds the same, and tells it in its own words
        for address in addresses:
            _check(address, self._host)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet at large, also when it is wrapped in IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        ip = wrapped or ip
    return ip.is_global and not ip.is_multicast


def _check(address: str, host: str) -> None:
    if not is_public(address):
        raise AddressRefused(
            f"{host} is at {address}, which is no public address.",
            remedy="Allow private addresses in the config if this is a server of your own.",
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
