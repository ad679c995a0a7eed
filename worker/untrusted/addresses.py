"""Which addresses are connected to: those of the internet at large, whatever a link, a redirect or a name server says.

`only_public` gives hooks for an httpx client. A host that is written as a number is judged before anything is sent,
in every spelling that the system's resolver takes (2130706433, 0x7f.1, 0177.0.0.1, [::ffff:127.0.0.1]). A name is
looked up before it is connected to, and the other end of the connection is judged before a byte is sent to it, since a
name may resolve differently a moment later. Every hop of a redirect passes here.

A proxy resolves names by itself. Behind one, numbers and the names that always stand for a machine inside are refused
here; where other names lead is the proxy's to decide, which its owner has set up.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from worker.errors import AddressRefused

#: host, port → the addresses it has; raises OSError
Resolve = Callable[[str, int], Awaitable[list[str]]]
Hook = Callable[[httpx.Request], Awaitable[None]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: For owners; a requester's address is told to nobody.
REMEDY: Final = "Set allow_private_downloads if this is a server of your own."
#: characters between two dots of a host name
LONGEST_LABEL: Final = 63

#: What IANA's registry of special IPv4 addresses gives to private, local, documentary or no use, and the one address
#: of the public range that a cloud answers inside its machines (Azure's wire server).
_INSIDE_V4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
        ),
    )
)  # fmt: skip
#: The part of IPv6 that is given out to networks, and what is special within it: Teredo and other protocols of IETF
#: (2001::/23), documentation, 6to4.
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)  # fmt: skip
#: IPv4 in the last 32 bits: mapped addresses, and translation by a network (NAT64).
_EMBEDDING_V6: Final = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96")))
#: The upper half of an interface's identifier that says: an IPv4 address follows (ISATAP).
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
#: Names that stand for this machine or one beside it, in every network.
_INSIDE_NAMES: Final = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa")


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet at large, also when it is embedded in IPv6."""
    try:
        return _is_public(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False


def is_web_address(url: str) -> bool:
    """Whether this is an absolute http(s) URL of printable ASCII without spaces: all that may be sent as it stands."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        readable = bool(httpx.URL(url).host)  # raises UnicodeError where xn-- begins no international name
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except (ValueError, httpx.InvalidURL):
        return False
    # The resolver raises what is no network error at labels of another length, and so does a socket at port 0.
    sound = all(0 < len(label) <= LONGEST_LABEL for label in host.removesuffix(".").split("."))
    return parts.scheme in {"http", "https"} and readable and sound and port != 0


async def only_web(request: httpx.Request) -> None:
    """A hook for a client's requests: http and https pass. Raises AddressRefused."""
    if request.url.scheme not in {"http", "https"}:
        raise AddressRefused(f"{request.url.scheme}:// is no address this worker fetches from.")


async def resolve_host(host: str, port: int) -> list[str]:
    """All addresses of a name, as the system tells them. Raises OSError."""
    # As bytes: a text would be taken for an international name, and fail with an error of its own where that can't be.
    found = await asyncio.get_running_loop().getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def is_inside(url: str, resolve: Resolve = resolve_host) -> bool:
    """Whether a web address leads to this machine or its network; a name that can't be resolved does not."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if (address := _written_address(host)) is not None:
        return not is_public(address)
    if _is_inside_name(host):
        return True
    try:
        addresses = await resolve(host, parts.port or (80 if parts.scheme == "http" else 443))
    except (OSError, UnicodeError):
        return False
    return not all(map(is_public, addresses))


async def _never() -> bool:
    return False


def only_public(resolve: Resolve = resolve_host, *, unless: Callable[[], Awaitable[bool]] = _never) -> Hook:
    """A hook for a client's requests: those to public addresses pass. Raises AddressRefused.

    `unless` is asked before an address is refused: True lets it pass.
    """

    async def check(address: str, host: str) -> None:
        if not is_public(address) and not await unless():
            raise AddressRefused(f"{host} is at {address}, which is no public address.", remedy=REMEDY)

    async def hook(request: httpx.Request) -> None:
        host = request.url.raw_host.decode("ascii")
        if (address := _written_address(host)) is not None:
            await check(address, host)
        elif _is_inside_name(host) and not await unless():
            raise AddressRefused(f"{host} is a name within a network, not of the internet.", remedy=REMEDY)
        request.extensions = {**request.extensions, "trace": _Watch(host, resolve, check).see}

    return hook


class _Watch:
    """Looks on while httpx makes a connection for a request to `host`."""

    def __init__(self, host: str, resolve: Resolve, check: Callable[[str, str], Awaitable[None]]) -> None:
        self._host = host
        self._resolve = resolve
        self._check = check
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
                await self._check(stream.get_extra_info("server_addr")[0], self._host)
            except AddressRefused:
                await stream.aclose()
                raise

    async def _look_up(self, port: int) -> None:
        try:
            addresses = await self._resolve(self._host, port)
        except OSError:
            return  # httpx finds the same, and tells it in its own words
        for address in addresses:
            await self._check(address, self._host)


def _is_public(ip: _Address) -> bool:
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _INSIDE_V4)
    last = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if any(ip in network for network in _EMBEDDING_V6):
        return _is_public(last)
    if (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP and not _is_public(last):
        return False
    return ip in _GLOBAL_V6 and not any(ip in network for network in _SPECIAL_V6)


def _written_address(host: str) -> str | None:
    """The address that a host is when it is no name, however it is written; None for a name."""
    bare = host.removesuffix(".").partition("%")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        # As the system's resolver reads it: one to four parts, decimal, octal or hexadecimal.
        return socket.inet_ntoa(socket.inet_aton(bare))
    except (OSError, UnicodeError):
        return None


def _is_inside_name(host: str) -> bool:
    name = host.removesuffix(".").casefold()
    return any(name == inside or name.endswith(f".{inside}") for inside in _INSIDE_NAMES)
