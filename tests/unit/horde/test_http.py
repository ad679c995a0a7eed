"""Connections of one kind: how many, which, that each is closed; and what a peer can do with one."""

import asyncio
import contextlib
from dataclasses import replace

import httpx
import pytest

from tests.unit.horde.scripted import HASTY_LIMITS
from worker.horde.http import Connections, is_loopback
from worker.horde.limits import Limits


class Counter(httpx.AsyncBaseTransport):
    """Answers when it is let; counts what is under way."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.under_way = self.most = self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.let.wait()
        finally:
            self.under_way -= 1
        if request.url.path == "/broken":
            raise httpx.ReadError("gone", request=request)
        return httpx.Response(200, text="yes")

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


async def ask(connections: Connections, path: str = "") -> int:
    async with connections.stream(connections.build_request("GET", f"https://horde.invalid/{path}")) as response:
        await response.aread()
        return response.status_code


async def test_no_more_requests_are_under_way_than_there_are_connections() -> None:
    transport = Counter()
    connections = Connections(replace(HASTY_LIMITS, connections=3), proxies=False, transport=transport)
    asking = [asyncio.ensure_future(ask(connections)) for _ in range(10)]
    await asyncio.sleep(0)
    while transport.under_way < 3:
        await asyncio.sleep(0)
    transport.let.set()
    assert await asyncio.gather(*asking) == [200] * 10
    assert transport.most == 3
    assert len(connections._clients) == 3
    await connections.aclose()
    assert all(client.is_closed for client in connections._clients)


async def test_a_failed_or_cancelled_request_leaves_its_connection_to_the_next() -> None:
    transport = Counter()
    connections = Connections(replace(HASTY_LIMITS, connections=1), proxies=False, transport=transport)
    given_up = asyncio.ensure_future(ask(connections))
    while not transport.under_way:
        await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    transport.let.set()
    with pytest.raises(httpx.ReadError):
        await ask(connections, "broken")
    assert await ask(connections) == 200
    assert len(connections._clients) == 1
    await connections.aclose()


async def test_one_connection_serves_requests_that_come_one_after_another() -> None:
    served = 0
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        connections = Connections(Limits(), proxies=False)
        for _ in range(5):
            async with connections.stream(connections.build_request("GET", url)) as response:
                assert await response.aread() == b"yes"
        await connections.aclose()
        await hung_up.wait()
    assert served == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:7001/api", True),
        ("http://localhost/api", True),
        ("http://[::1]:80/", True),
        ("https://aihorde.net/api", False),
        ("http://192.168.1.2/api", False),
        ("", False),
    ],
)
def test_an_address_on_this_machine_is_known(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


async def test_all_connections_are_closed_though_the_closing_is_cancelled() -> None:
    transport = Counter()
    connections = Connections(HASTY_LIMITS, proxies=False, transport=transport)
    asking = [asyncio.ensure_future(ask(connections)) for _ in range(3)]
    while transport.under_way < 3:
        await asyncio.sleep(0)
    transport.let.set()
    await asyncio.gather(*asking)
    closing = asyncio.ensure_future(connections.aclose())
    await asyncio.sleep(0)

    closing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await closing
    assert transport.closed == 3
