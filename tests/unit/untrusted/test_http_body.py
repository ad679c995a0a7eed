"""Bodies of answers that were not asked for, never end, or come a byte at a time. The server is a socket of our own."""

import asyncio
import contextlib
import gzip
import time
import zlib
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from worker.errors import InputRefused
from worker.untrusted import http_body
from worker.untrusted.http_body import IDENTITY, SlowWatch, iter_body, read_body


@asynccontextmanager
async def answering(*pieces, pause_s=0.0):
    """A server that writes these bytes to whoever connects."""
    running: set[Any] = set()

    async def answer(reader, writer):
        running.add(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def body_of(url, max_bytes=100_000):
    async with httpx.AsyncClient(trust_env=False) as http, http.stream("GET", url, headers=IDENTITY) as response:
        return await read_body(response, max_bytes=max_bytes)


def head(*lines):
    return "\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode()


async def test_a_body_comes_as_it_was_sent():
    async with answering(head("Content-Length: 5") + b"whole") as url:
        assert await body_of(url) == b"whole"


@pytest.mark.parametrize(
    "lines", [["Content-Encoding: identity"], ["Content-Encoding: "], ["Content-Encoding: Identity, identity"]]
)
async def test_to_be_told_that_nothing_is_compressed_is_fine(lines):
    async with answering(head("Content-Length: 5", *lines) + b"whole") as url:
        assert await body_of(url) == b"whole"


BOMB = gzip.compress(gzip.compress(bytes(1_000_000), mtime=0), mtime=0)  # the same in each process of a run


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Encoding: gzip"], ["Content-Encoding: gzip, gzip"], ["Content-Encoding: GZip"],
        ["content-encoding: x-gzip"], ["Content-Encoding: deflate"], ["Content-Encoding: br"],
        ["Content-Encoding: zstd"], ["Content-Encoding: compress"], ["Content-Encoding: identity, gzip"],
        ["Content-Encoding: identity", "Content-Encoding: gzip"], ["Content-Encoding: gzip", "CONTENT-ENCODING: gzip"],
        ["Content-Encoding:\tgzip"], ["Content-Encoding: aws-chunked,gzip"], ["Content-Encoding: bogus"],
    ],
)  # fmt: skip
async def test_a_compression_that_was_not_asked_for_is_refused_before_a_byte_of_it_is_read(lines):
    async with answering(head(f"Content-Length: {len(BOMB)}", *lines) + BOMB) as url:
        with pytest.raises(InputRefused, match="compressed"):
            await body_of(url, max_bytes=100_000_000)


@pytest.mark.parametrize("data", [BOMB, zlib.compress(bytes(1000))])
async def test_what_is_compressed_and_does_not_say_so_stays_as_it_is(data):
    async with answering(head(f"Content-Length: {len(data)}") + data) as url:
        assert await body_of(url, max_bytes=len(data)) == data


async def test_a_length_above_the_bound_is_refused_before_the_body_comes():
    async with answering(head("Content-Length: 100000000000"), pause_s=60) as url:
        with pytest.raises(InputRefused, match="more than 100000"):
            await body_of(url)


@pytest.mark.parametrize("lines", [["Transfer-Encoding: chunked"], ["Connection: close"]])
async def test_a_body_that_does_not_tell_its_length_is_counted(lines):
    piece = b"3e8\r\n" + b"x" * 1000 + b"\r\n" if "chunked" in lines[0] else b"x" * 1000
    async with answering(head(*lines), piece * 1_000) as url:
        with pytest.raises(InputRefused, match="more than"):
            await body_of(url)


async def test_what_came_before_the_bound_is_handed_out():
    async with answering(head("Connection: close") + b"x" * 1000) as url, httpx.AsyncClient(trust_env=False) as http:
        got = b""
        with pytest.raises(InputRefused):
            async with http.stream("GET", url) as response:
                async for piece in iter_body(response, max_bytes=300):
                    got += piece
        assert got == b"x" * 300


async def test_a_flood_of_tiny_pieces_lets_others_have_their_turns(monkeypatch):
    """One read of a socket may hold ten thousand chunks of a byte each, all there without waiting."""
    monkeypatch.setattr(http_body, "TURN_S", 0.0)
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def flood():
        for _ in range(100):
            yield b"x"

    counting = asyncio.ensure_future(count_turns())
    response = httpx.Response(200, content=flood())
    assert len(await read_body(response, max_bytes=1000)) == 100
    counting.cancel()
    assert turns >= 99


async def test_a_body_in_crumbs_is_refused_long_before_its_bound():
    """A megabyte of chunks of one byte each takes the parser of HTTP half a minute."""
    sent = 50_000
    async with answering(head("Transfer-Encoding: chunked") + b"1\r\nx\r\n" * sent) as url:
        with pytest.raises(InputRefused, match="pieces of less than"):
            await body_of(url, max_bytes=sent)


async def test_a_short_answer_may_come_line_by_line():
    lines = b"3\r\n{}\n\r\n" * 900 + b"0\r\n\r\n"
    async with answering(head("Transfer-Encoding: chunked") + lines) as url:
        assert len(await body_of(url)) == 2700


def test_a_transfer_that_drips_is_told_by_the_bytes_of_a_window(monkeypatch):
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    watch = SlowWatch(least_bytes_per_s=10, window_s=5)
    now_s = 4.9
    assert not watch.drips(1)
    now_s = 5.0
    assert watch.drips(48) == "only 49 bytes came in 5 s"
    now_s = 10.0
    assert not watch.drips(50)
