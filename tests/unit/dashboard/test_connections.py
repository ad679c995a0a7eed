"""Bounds that hold on real connections: slow senders, many connections, readers that take nothing."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
import uvicorn
from loguru import logger
from uvicorn.server import ServerState

from tests.unit.dashboard.visitors import TOKEN, Page
from worker.dashboard import connections, events, security
from worker.dashboard.server import listen, serve


@asynccontextmanager
async def served(page):
    listening = listen("127.0.0.1", 0)
    serving = asyncio.ensure_future(serve(page.app, listening))
    try:
        yield listening.getsockname()[1]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
async def page(tmp_path):
    return Page(tmp_path)


async def ask(port, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.replace("\n", "\r\n").encode())
    return reader, writer


async def end_of(reader, writer):
    """Everything that comes until the server closes the connection."""
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def head(path, *lines, method="GET"):
    return "\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""))


async def test_a_head_that_does_not_come_to_an_end_is_not_waited_for(page, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    async with served(page) as port:
        for begin in ("", "GET / HT", "GET / HTTP/1.1\nHost: 127.0.0.1\nX-"):
            assert await end_of(*await ask(port, begin)) == b""


async def test_a_second_head_on_a_connection_is_not_waited_for_either(page, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    async with served(page) as port:
        reader, writer = await ask(port, head("/healthz"))
        assert b"200" in await reader.readuntil(b"\r\n")
        writer.write(b"GET / HTTP/1.1\r\nX")
        await end_of(reader, writer)


async def test_a_body_that_does_not_come_to_an_end_is_not_waited_for(page, monkeypatch):
    monkeypatch.setattr(security, "BODY_S", 0.3)
    async with served(page) as port:
        text = head("/sign-in", "Content-Length: 100", "Content-Type: text/plain", method="POST")
        assert b" 408 " in await end_of(*await ask(port, text + "a"))


async def test_a_head_that_is_too_large_is_refused(page):
    async with served(page) as port:
        answer = await end_of(*await ask(port, "GET / HTTP/1.1\nHost: 127.0.0.1\nX: " + "a" * 400_000))
        assert answer == b"" or b" 400 " in answer


def status(*lines):
    return head("/api/status", f"Authorization: Bearer {TOKEN}", *lines)


async def test_one_machine_has_so_many_connections_and_no_more(page, monkeypatch):
    monkeypatch.setattr(connections, "MOST_OF_ONE", 3)
    async with served(page) as port:
        held = [await ask(port, status()) for _ in range(3)]
        for reader, _ in held:
            assert b"200" in await reader.readuntil(b"\r\n")
        assert await end_of(*await ask(port, status())) == b""
        for _, writer in held:
            writer.close()


async def test_the_oldest_connection_that_has_shown_no_token_gives_way_and_none_of_the_owners(page, monkeypatch):
    monkeypatch.setattr(connections, "MOST_OF_ONE", 3)
    async with served(page) as port:
        owners = await ask(port, status())
        assert b"200" in await owners[0].readuntil(b"\r\n")
        older, newer, newest = [await ask(port, head("/healthz")) for _ in range(3)]
        await end_of(*older)
        for reader, writer in (newer, newest, owners):
            assert reader.at_eof() is False
            writer.close()


async def test_a_program_that_holds_all_connections_of_this_machine_keeps_no_command_out(page):
    """It opens a new one for each that is closed; `status`, `pause` and the probe of a service manager came in vain."""
    over = asyncio.Event()

    async def hold(port):
        while not over.is_set():  # since wait_for of Python 3.11 may lose the cancellation
            await end_of(*await ask(port, "GET / HTTP/1.1\nX: "))
            await asyncio.sleep(0.05)  # in the same loop as the page, which it must not keep busy

    async with served(page) as port:
        holding = [asyncio.ensure_future(hold(port)) for _ in range(connections.MOST_OF_ONE + 12)]
        await asyncio.sleep(0.3)
        answers = [await end_of(*await ask(port, status("Connection: close"))) for _ in range(30)]
        over.set()
        for each in holding:
            each.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
    assert [b" 200 " in answer.partition(b"\r\n")[0] for answer in answers] == [True] * 30


async def open_stream(port, page, *more):
    cookie = f"Cookie: {page.sessions.cookie}={page.sessions.begin()}"
    return await ask(port, head("/events", cookie, "Sec-Fetch-Site: same-origin", *more))


async def test_events_come_as_they_happen_and_end_with_the_session(page, monkeypatch):
    monkeypatch.setattr(events, "LEAST_S", 0.05)
    async with served(page) as port:
        reader, writer = await open_stream(port, page)
        await asyncio.wait_for(reader.readuntil(b'"headline"'), 10)
        page.rig.ends(page.rig.job("1", model="Newcomer"))
        await asyncio.wait_for(reader.readuntil(b"Newcomer"), 10)
        page.sessions.end_all()
        page.rig.ends(page.rig.job("2", model="Too late"))
        assert b"Too late" not in await end_of(reader, writer)


async def test_no_more_readers_of_events_are_let_in_than_there_is_room_for(page, monkeypatch):
    monkeypatch.setattr(events, "MOST_OF_ONE", 2)
    async with served(page) as port:
        held = [await open_stream(port, page) for _ in range(2)]
        for reader, _ in held:
            assert b"200" in await reader.readuntil(b"\r\n")
        reader, writer = await open_stream(port, page, "Connection: close")
        assert b" 503 " in await end_of(reader, writer)
        held[0][1].close()
        for _ in range(100):
            reader, writer = await open_stream(port, page, "Connection: close")
            if b"200" in await reader.readuntil(b"\r\n"):
                break
            writer.close()
        else:
            raise AssertionError("the place of a reader that went away stays taken")
        for _, each in (*held[1:], (reader, writer)):
            each.close()


class Transport(asyncio.Transport):
    """A connection on which nothing is taken off."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 7)})
        self.aborted = asyncio.Event()

    def abort(self) -> None:
        self.aborted.set()

    def is_closing(self) -> bool:
        return self.aborted.is_set()

    def close(self) -> None:
        """Nothing is there to close."""


async def test_a_connection_that_takes_nothing_is_given_up_and_one_that_catches_up_is_not(monkeypatch):
    monkeypatch.setattr(connections, "STUCK_S", 0.1)
    config = uvicorn.Config(lambda: None, http=connections.BoundedConnection, log_config=None)
    config.load()
    stuck, late = Transport(), Transport()
    for transport in (stuck, late):
        connection = connections.BoundedConnection(config, ServerState(), {})
        connection.connection_made(transport)
        connection.pause_writing()
    connection.resume_writing()
    await asyncio.wait_for(stuck.aborted.wait(), 10)
    assert not late.aborted.is_set()
    connection.connection_lost(None)


async def test_a_reader_that_accepts_no_event_leaves_its_place(page, monkeypatch):
    monkeypatch.setattr(events, "SEND_S", 0.1)
    readers, fragments = events.Readers(), events.LiveFragments({})
    assert readers.enter("127.0.0.1")
    stream = events.EventStream(page.rig.board, fragments, readers, address="127.0.0.1", may_go_on=lambda: True)

    async def never(_):
        await asyncio.Event().wait()

    async def started(message):
        if message["type"] != "http.response.start":
            await never(message)

    await asyncio.wait_for(stream({}, lambda: never(None), started), 10)
    assert readers._of == {}


@pytest.mark.parametrize("address", ["/sign-in?token=" + TOKEN, "/sign-in?token=wrong", "/?token=" + TOKEN])
async def test_no_token_of_an_address_comes_into_the_log(page, address):
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="TRACE")
    async with served(page) as port:
        await end_of(*await ask(port, head(address, "Connection: close")))
        await end_of(*await ask(port, f"GET {address} HTTP/9\nHost: 127.0.0.1\n\n"))
    logger.remove(sink)
    assert "token=" not in "".join(lines)
    assert TOKEN not in "".join(lines)


@pytest.mark.parametrize("before", ["", "GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n"])
async def test_a_long_head_is_refused_also_when_it_comes_whole(page, before):
    """A server may get a hundred kilobytes of headers at one read; taking them apart would hold up everybody."""
    async with served(page) as port:
        answer = await end_of(*await ask(port, before + head("/healthz", *["a: b"] * 8000, "Connection: close")))
        assert b" 200 " not in answer.partition(b"ok\n")[2 if before else 0]


async def test_a_request_before_the_answer_to_the_last_one_is_not_taken(page):
    async with served(page) as port:
        cookie = f"Cookie: {page.sessions.cookie}={page.sessions.begin()}"
        reader, writer = await ask(port, head("/events", cookie, "Sec-Fetch-Site: same-origin"))
        assert b"200" in await reader.readuntil(b"\r\n")
        writer.write(b"GET /healthz HTTP/1.1\r\n" * 100_000)
        await end_of(reader, writer)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_answers_do_not_wait_for_the_reader_to_acknowledge_the_head(address):
    """Nagle's delay: a head and its body go out in two pieces, and the second waited 40 ms on an open connection."""
    listening, taken = listen(address, 0), asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: taken.set_result(writer), sock=listening)
    _, writer = await asyncio.open_connection(address, listening.getsockname()[1])
    accepted = await taken
    assert accepted.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for each in (writer, accepted, server):
        each.close()


async def test_a_body_in_one_piece_with_its_head_is_taken(page):
    async with served(page) as port:
        body = "token=" + "a" * 50_000
        lines = (f"Content-Length: {len(body)}", "Content-Type: application/x-www-form-urlencoded", "Connection: close")
        assert b" 403 " in await end_of(*await ask(port, head("/sign-in", *lines, method="POST") + body))


async def test_others_with_many_connections_keep_this_machine_and_its_probes_out_of_nothing(page, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(connections, "is_this_machine", lambda address: address == "127.0.0.1")
    async with served(page) as port:
        held = [
            await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{10 + number}", 0))
            for number in range(150)
        ]
        assert await end_of(*held[0]) == b""
        assert b" 200 " in await end_of(*await ask(port, head("/healthz", "Connection: close")))
        for _, writer in held:
            writer.close()
