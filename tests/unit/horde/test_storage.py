import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from loguru import logger

from tests.unit.horde.scripted import HASTY, HASTY_LIMITS, KEY
from worker.errors import JobError, JobLate, UploadFailed
from worker.horde.client import HordeClient
from worker.untrusted.pictures import MemoryBudget

SECRET = "X-Amz-Credential=local%2F20261122%2fauto&X-Amz-Signature=bc7e0d01"
URL = f"https://storage.invalid/horde/2e42ccc3.webp?{SECRET}"
IMAGE = b"RIFF....WEBP" * 100


def s3_error(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, text=f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>')


async def test_an_image_is_put_as_it_is_without_key_or_content_type(connect) -> None:
    client, storage = connect(httpx.Response(200))
    await client.upload(URL, IMAGE)
    (sent,) = storage.requests
    assert (sent.method, sent.content) == ("PUT", IMAGE)
    assert sent.url.raw_path == URL.removeprefix("https://storage.invalid").encode()
    assert not {"content-type", "apikey", "client-agent"} & set(sent.headers)
    assert KEY not in str(sent.headers)


@pytest.mark.usefixtures("no_least_wait")
@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.WriteError("reset"),
        httpx.ReadTimeout("late"),
        httpx.Response(500),
        httpx.Response(503),
        httpx.Response(429, headers={"Retry-After": "0"}),
        s3_error(400, "RequestTimeout"),
    ],
)
async def test_an_upload_is_repeated_after_what_may_pass(connect, failure: Any) -> None:
    client, storage = connect(failure, httpx.Response(200))
    await client.upload(URL, IMAGE)
    assert [request.content for request in storage.requests] == [IMAGE, IMAGE]


@pytest.mark.parametrize(
    "answer", [s3_error(403, "AccessDenied"), s3_error(400, "EntityTooLarge"), httpx.Response(301)]
)
async def test_an_upload_that_is_refused_is_not_repeated(connect, answer: httpx.Response) -> None:
    client, storage = connect(answer)
    with pytest.raises(UploadFailed) as caught:
        await client.upload(URL, IMAGE)
    assert len(storage.requests) == 1
    assert "https://storage.invalid/horde/2e42ccc3.webp?…" in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_an_expired_address_is_told_with_the_storages_code(connect) -> None:
    client, _ = connect(s3_error(403, "AccessDenied"))
    with pytest.raises(UploadFailed, match=r"HTTP 403 AccessDenied.*expired"):
        await client.upload(URL, IMAGE)


async def test_a_storage_that_goes_on_failing_is_given_up(connect) -> None:
    client, storage = connect(*[httpx.Response(500) for _ in range(9)])
    with pytest.raises(UploadFailed):
        await client.upload(URL, IMAGE)
    assert len(storage.requests) == HASTY.tries


async def test_a_storage_that_is_away_for_a_while_costs_no_image(connect) -> None:
    client, storage = connect(*[httpx.Response(503) for _ in range(HASTY.tries * 2)], httpx.Response(200))
    await client.upload(URL, IMAGE)
    assert len(storage.requests) == HASTY.tries * 2 + 1


async def test_a_hanging_upload_ends_at_the_deadline(connect) -> None:
    async def hang(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    transport = httpx.MockTransport(hang)
    client = HordeClient("https://horde.invalid", KEY, agent="a:1:b", limits=HASTY_LIMITS, transport=transport)
    async with contextlib.aclosing(client):
        with pytest.raises(UploadFailed, match="no end of it"):
            await client.upload(URL, IMAGE, deadline=asyncio.get_running_loop().time() + 0.02)


@pytest.mark.parametrize("transfer", ["upload", "fetch"])
async def test_nothing_is_transferred_for_a_job_whose_time_is_over(connect, transfer: str) -> None:
    client, storage = connect()
    late = asyncio.get_running_loop().time() - 1
    with pytest.raises(JobLate):
        await (
            client.upload(URL, IMAGE, deadline=late) if transfer == "upload" else client.fetch(URL, 10, deadline=late)
        )
    assert storage.requests == []


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", f"ftp://host/a?{SECRET}", f"https://a b/?{SECRET}"])
async def test_what_is_no_web_address_is_neither_asked_nor_shown(connect, url: str) -> None:
    client, storage = connect()
    with pytest.raises(UploadFailed) as upload:
        await client.upload(url, IMAGE)
    with pytest.raises(JobError) as fetch:
        await client.fetch(url, 10)
    assert storage.requests == []
    assert SECRET not in f"{upload.value} {fetch.value}"


async def test_a_picture_is_fetched_without_the_key(connect) -> None:
    client, storage = connect(httpx.Response(200, content=IMAGE))
    assert await client.fetch(URL, len(IMAGE)) == IMAGE
    assert "apikey" not in storage.requests[0].headers


class Endless(httpx.AsyncByteStream):
    """A body without an end; counts what was taken of it."""

    taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.taken += 1000
            yield b"x" * 1000


async def test_a_picture_too_large_is_not_read_to_its_end(connect) -> None:
    body = Endless()
    client, storage = connect(httpx.Response(200, stream=body))
    with pytest.raises(JobError, match="more than 5000 bytes"):
        await client.fetch(URL, 5000)
    assert body.taken <= 6000
    assert len(storage.requests) == 1


class Torn(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield IMAGE[:50]
        raise httpx.ReadError("reset")


async def test_a_picture_that_breaks_off_is_fetched_again(connect) -> None:
    client, _ = connect(httpx.Response(200, stream=Torn()), httpx.Response(200, content=IMAGE))
    assert await client.fetch(URL, len(IMAGE)) == IMAGE


async def test_half_a_picture_is_no_picture(connect) -> None:
    limits = dataclasses.replace(HASTY_LIMITS, transfer_retry=dataclasses.replace(HASTY, within_s=0.05))
    client, _ = connect(*[httpx.Response(200, stream=Torn()) for _ in range(200)], limits=limits)
    with pytest.raises(JobError, match="breaks off") as caught:
        await client.fetch(URL, len(IMAGE))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [302, 403, 404, 410])
async def test_a_picture_that_is_not_there_is_not_asked_for_again(connect, status: int) -> None:
    client, storage = connect(httpx.Response(status, headers={"Location": "http://127.0.0.1/secret"}))
    with pytest.raises(JobError, match=f"HTTP {status}"):
        await client.fetch(URL, 10)
    assert len(storage.requests) == 1


async def test_no_log_of_any_level_shows_a_presigned_query(connect, caplog) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, level=0, format="{message} {extra}")
    try:
        with caplog.at_level(logging.DEBUG):
            client, _ = connect(httpx.ConnectError(f"no way to {URL}"), httpx.Response(500), httpx.Response(200))
            await client.upload(URL, IMAGE)
    finally:
        logger.remove(sink)
    assert len(lines) == 2
    assert "Signature" not in caplog.text + "".join(lines)


async def test_the_request_line_holds_the_address_as_it_was_given() -> None:
    """Over a real socket: what a signature covers must arrive byte for byte."""
    odd = "/a/./b%2fc~'x'.webp?X-Amz-Credential=k%2f1&sig='a'+b=="
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.extend((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        await reader.readexactly(len(IMAGE))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        client = HordeClient(f"http://{host}:{port}/api", KEY, agent="a:1:b", limits=HASTY_LIMITS)
        await client.upload(f"http://{host}:{port}{odd}", IMAGE)
        await client.aclose()
    assert lines[0] == f"PUT {odd} HTTP/1.1".encode()
    names = {line.split(b":")[0].lower() for line in lines[1:] if line}
    assert b"content-length" in names
    assert not {b"content-type", b"apikey", b"transfer-encoding"} & names


@pytest.mark.parametrize("transfer", ["upload", "fetch"])
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "[::1]",
        "[64:ff9b::7f00:1]", "[::127.0.0.1]", "[fec0::1]", "10.0.0.1", "169.254.169.254", "100.100.100.200",
        "metadata.google.internal", "Printer.Local.", "127.0.0.1.", "[2002:7f00:1::]", "0.0.0.0",
    ],
)  # fmt: skip
async def test_nothing_is_fetched_from_or_put_to_an_address_inside(connect, transfer, host) -> None:
    client, storage = connect()
    with pytest.raises((UploadFailed, JobError), match=r"no public address|within a network|no web address"):
        await (
            client.upload(f"http://{host}/a", IMAGE) if transfer == "upload" else client.fetch(f"http://{host}/a", 9)
        )
    assert storage.requests == []


@pytest.mark.parametrize("horde", ["http://127.0.0.1:7001/api", "http://192.168.1.5/api", "http://horde.lan/api"])
async def test_a_horde_in_the_owners_network_has_its_storage_there_too(horde) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    client = HordeClient(horde, KEY, agent="a:1:b", limits=HASTY_LIMITS, transport=transport)
    async with contextlib.aclosing(client):
        await client.upload("http://192.168.1.6/a", IMAGE)


async def test_what_is_compressed_though_nobody_asked_is_no_picture(connect) -> None:
    bomb = httpx.Response(200, headers={"Content-Encoding": "gzip, gzip"}, stream=Torn())
    client, storage = connect(bomb)
    with pytest.raises(JobError, match="compressed"):
        await client.fetch(URL, 1000)
    assert storage.requests[0].headers["accept-encoding"] == "identity"


async def test_the_bytes_of_a_picture_are_taken_from_the_jobs_memory_and_a_failed_try_gives_them_back(connect) -> None:
    client, _ = connect(httpx.Response(200, stream=Torn()), httpx.Response(200, content=IMAGE))
    budget = MemoryBudget(10_000)
    with budget.reserve() as memory:
        await client.fetch(URL, len(IMAGE), memory=memory)
        assert budget.used_bytes == len(IMAGE)
