"""An archive over the network: whole and right, or nothing is left of it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from worker.errors import DownloadError, DownloadFailed, DownloadRefused, FileBroken, HostUnreachable
from worker.update import fetch
from worker.update.fetch import client, fetch_archive
from worker.update.releases import Offer

CONTENT = bytes(range(256)) * 40
OFFER = Offer("2.0.0", "https://example.org/r.tar.gz", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class Body(httpx.AsyncByteStream):
    """A body in pieces, with a pause before each; it may break off."""

    def __init__(self, pieces: list[bytes], *, pause_s: float = 0.0, breaks: bool = False) -> None:
        self.pieces, self.pause_s, self.breaks = pieces, pause_s, breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(self.pause_s)
            yield piece
        if self.breaks:
            raise httpx.ReadError("reset")


async def fetched(answer: httpx.Response, target: Path, offer: Offer = OFFER) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer)) as http:
        await fetch_archive(http, offer, target, lambda done, total: told.append((done, total)))
    return told


@pytest.mark.asyncio
async def test_a_whole_archive_arrives_and_progress_is_told(tmp_path):
    told = await fetched(httpx.Response(200, stream=Body([CONTENT[:5000], CONTENT[5000:]])), tmp_path / "r")
    assert (tmp_path / "r").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(200, stream=Body([CONTENT[:-1]])), DownloadFailed),
        (httpx.Response(200, stream=Body([CONTENT[:-1] + b"x"])), FileBroken),
        (httpx.Response(200, stream=Body([CONTENT, b"more"])), FileBroken),
        (httpx.Response(200, headers={"content-length": "99999999999"}, stream=Body([])), FileBroken),
        (httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Body([CONTENT])), FileBroken),
        (httpx.Response(200, stream=Body([CONTENT[:900]], breaks=True)), HostUnreachable),
        (httpx.Response(404, stream=Body([])), DownloadRefused),
        (httpx.Response(302, headers={"location": "http://x"}, stream=Body([])), DownloadRefused),
    ],
)
async def test_what_is_cut_wrong_endless_or_packed_is_refused_and_nothing_is_left(tmp_path, answer, error):
    with pytest.raises(error):
        await fetched(answer, tmp_path / "r")
    assert not list(tmp_path.iterdir())


@pytest.mark.asyncio
async def test_a_connection_that_drips_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "WINDOW_S", 0.05)
    slow = Body([CONTENT[at : at + 10] for at in range(0, 5000, 10)], pause_s=0.01)
    with pytest.raises(DownloadError, match="too slow"):
        await fetched(httpx.Response(200, stream=slow), tmp_path / "r")
    assert not list(tmp_path.iterdir())


@pytest.mark.asyncio
async def test_the_time_for_all_of_it_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "ARCHIVE_LIMIT_S", 0.05)
    slow = Body([CONTENT[:5000]] * 50, pause_s=0.02)
    with pytest.raises(HostUnreachable, match="not there within"):
        await fetched(httpx.Response(200, stream=slow), tmp_path / "r", Offer("2", OFFER.url, OFFER.sha256, 10**9))
    assert not list(tmp_path.iterdir())


@pytest.mark.asyncio
async def test_code_is_never_asked_for_over_http():
    async with client() as http:
        with pytest.raises(DownloadRefused, match="https"):
            await http.get("http://example.org/r.tar.gz")
