"""Answers that are refused, and what they leave on the disk."""

import hashlib
import random
from contextlib import asynccontextmanager

import httpx
import pytest

from worker.errors import DiskFull, DownloadError, DownloadFailed, DownloadRefused, FileBroken
from worker.models.disk.checksums import HashStore
from worker.models.download.downloader import Download, Downloader
from worker.models.download.part_file import PartFile
from worker.models.download.transfer import TransferLimits

CONTENT = random.Random(7).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
#: every byte is progress
PATIENT = TransferLimits(slow_bytes_per_s=1.0, slow_window_s=1.0)


@asynccontextmanager
async def downloader(root, **options):
    async with httpx.AsyncClient(trust_env=False) as http:
        fetcher = Downloader(
            http, HashStore(root), **{"limits": PATIENT, "first_pause_s": 0.0, "reserve_bytes": 0, **options}
        )
        yield fetcher
        await fetcher.close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "compvis" / "m.bin"


async def fetch(server, target, *, sha256=SHA256, url=None, **options):
    async with downloader(target.parents[1], **options) as fetcher:
        return await fetcher.fetch(Download(url or server.url, target, sha256))


async def failure(server, target, **options):
    with pytest.raises(DownloadError) as caught:
        await fetch(server, target, **options)
    assert not target.exists()
    return caught.value


def leftovers(target):
    return sorted(path.name for path in target.parent.iterdir()) if target.parent.exists() else []


@pytest.mark.parametrize("fault", ["", "unbounded"])
async def test_a_file_that_is_refused_for_good_leaves_nothing_on_the_disk(serve, target, fault):
    async with serve(CONTENT) as server:
        server.ranges, server.faults = False, [fault]
        error = await failure(server, target, limits=TransferLimits(max_bytes=250_000))
    assert isinstance(error, DownloadRefused)
    assert leftovers(target) == []


async def test_a_no_that_the_owner_can_turn_into_a_yes_keeps_what_arrived(serve, target):
    async with serve(CONTENT) as server:
        server.faults = ["cut:50000", "status:401"]
        await failure(server, target)
        await fetch(server, target)
        assert server.requests[-1]["range"] == "bytes=50000-"


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"content-encoding": "gzip"}, DownloadRefused),
        ({"content-encoding": "gzip, br"}, DownloadRefused),
        ({"content-type": "Text/HTML"}, DownloadRefused),
        ({"content-type": "application/json; charset=utf-8"}, DownloadRefused),
    ],
)
async def test_an_answer_that_can_not_be_the_file_is_refused(target, headers, kind):
    answer = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(CONTENT)))
    async with httpx.AsyncClient(transport=answer) as http:
        with pytest.raises(kind):
            await Downloader(http, HashStore(target.parents[1])).fetch(Download("https://x/m.bin", target))
    assert leftovers(target) == []


async def test_a_bot_check_is_no_final_no(target):
    challenge = httpx.MockTransport(lambda _: httpx.Response(403, headers={"cf-mitigated": "challenge"}))
    async with httpx.AsyncClient(transport=challenge) as http:
        with pytest.raises(DownloadFailed):
            await Downloader(http, HashStore(target.parents[1]), first_pause_s=0.0).fetch(
                Download("https://x/m.bin", target)
            )


async def test_a_disk_that_fills_up_is_told_with_a_remedy(serve, target, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PartFile, "append", full)
    async with serve(CONTENT) as server:
        error = await failure(server, target)
    assert isinstance(error, DiskFull)
    assert "Free disk space" in error.remedy


async def test_a_wrong_file_is_told_as_that(serve, target):
    async with serve(CONTENT) as server:
        assert isinstance(await failure(server, target, sha256="0" * 64), FileBroken)
