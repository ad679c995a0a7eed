"""Downloads from a local server that misbehaves in every way we know of."""

import asyncio
import hashlib
import random
import sys
import textwrap
import threading
from contextlib import asynccontextmanager

import httpx
import pytest

from worker.aio import timeout
from worker.errors import AddressRefused, DownloadError, Retry
from worker.models.disk.checksums import HashStore
from worker.models.download import transfer as transfer_module
from worker.models.download.downloader import Download, Downloader, DownloadState, estimate_bytes
from worker.models.download.part_file import PartFile, PartState
from worker.models.download.transfer import Throttle, TransferLimits
from worker.process import file_lock
from worker.untrusted.addresses import only_public

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


async def test_a_file_arrives_whole_with_its_checksum_on_record(serve, target):
    async with serve(CONTENT) as server:
        assert await fetch(server, target) == target
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == ["m.bin", "m.sha256"]
    assert target.with_suffix(".sha256").read_text() == f"{SHA256} *m.bin"


async def test_a_cut_connection_is_taken_up_where_it_broke(serve, target):
    async with serve(CONTENT) as server:
        server.faults = ["cut:50000", "cut:20000", "cut:30000"]
        await fetch(server, target)
        assert all(request.get("if-range", '"1"') == '"1"' for request in server.requests)
        starts = [request["range"] for request in server.requests]
        assert starts == ["bytes=0-", "bytes=50000-", "bytes=70000-", "bytes=100000-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("work", ["create", "append", "save"])
async def test_a_stopped_download_leaves_nobody_at_work_on_its_file_and_notes_what_is_there(
    serve, target, monkeypatch, work
):
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    plain = getattr(PartFile, work)

    def slow(part, *arguments):
        if not begun.is_set():
            begun.set()
            go_on.wait(30)
            plain(part, *arguments)
            ended.set()
        else:
            plain(part, *arguments)

    monkeypatch.setattr(transfer_module, "WRITE_BYTES", 1000)
    monkeypatch.setattr(transfer_module, "SAVE_BYTES", 1000)
    monkeypatch.setattr(PartFile, work, slow)
    async with serve(CONTENT) as server, downloader(target.parents[1]) as fetcher:
        waiter = asyncio.create_task(fetcher.fetch(Download(server.url, target, SHA256)))
        await asyncio.to_thread(begun.wait, 30)
        stopping = asyncio.create_task(fetcher.close())
        await asyncio.sleep(0.05)
        go_on.set()
        await stopping
        assert ended.is_set()
        await asyncio.gather(waiter, return_exceptions=True)
        state = PartFile(target).load(server.url)
    assert (state.done > 0) == (work == "append")
    assert target.with_name("m.bin.part").read_bytes()[: state.done] == CONTENT[: state.done]


async def test_a_download_killed_while_its_file_is_laid_out_is_not_taken_for_a_whole_one(serve, target, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.models.download.part_file.write_json", die)
    async with serve(CONTENT) as server:
        with pytest.raises(KeyboardInterrupt):
            PartFile(target).create(PartState(server.url, server.etag, len(CONTENT)))
        monkeypatch.undo()
        await fetch(server, target, sha256=None)
    assert target.read_bytes() == CONTENT


async def test_a_changed_file_is_fetched_anew(serve, target):
    changed = CONTENT[::-1]
    async with serve(CONTENT) as server:
        server.faults = ["cut:50000", "status:403"]
        await failure(server, target)
        server.content, server.etag = changed, '"2"'
        await fetch(server, target, sha256=hashlib.sha256(changed).hexdigest())
    assert target.read_bytes() == changed


async def test_bytes_of_an_older_file_do_not_count_in_the_checksum_of_the_new_one(serve, target):
    target.parent.mkdir()
    target.with_name("m.bin.part").write_bytes(b"?" * 100_000)
    async with serve(CONTENT) as server:
        server.ranges = False
        await fetch(server, target)
        assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT


async def test_a_changed_file_from_a_server_without_if_range_is_noticed_by_its_etag(serve, target):
    changed = CONTENT[::-1]
    async with serve(CONTENT) as server:
        server.faults = ["cut:50000", "status:403"]
        await failure(server, target)
        server.content, server.etag, server.faults = changed, '"2"', ["ignore-if-range"]
        await fetch(server, target, sha256=hashlib.sha256(changed).hexdigest())
    assert target.read_bytes() == changed


async def test_a_file_that_shrank_below_what_is_on_disk_is_fetched_anew(serve, target):
    short = CONTENT[:1000]
    async with serve(CONTENT) as server:
        server.faults = ["cut:50000", "status:403"]
        await failure(server, target)
        server.content = short
        await fetch(server, target, sha256=hashlib.sha256(short).hexdigest())
    assert target.read_bytes() == short


async def test_a_bare_part_of_another_program_is_continued(serve, target):
    target.parent.mkdir()
    target.with_name("m.bin.part").write_bytes(CONTENT[:100_000])
    async with serve(CONTENT) as server:
        await fetch(server, target)
        assert server.requests[0]["range"] == "bytes=100000-"
    assert target.read_bytes() == CONTENT


async def test_a_bare_part_that_is_whole_is_used(serve, target):
    target.parent.mkdir()
    target.with_name("m.bin.part").write_bytes(CONTENT)
    async with serve(CONTENT) as server:
        await fetch(server, target)
        assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT


async def test_a_bare_part_of_another_file_is_found_out_by_the_checksum(serve, target):
    target.parent.mkdir()
    target.with_name("m.bin.part").write_bytes(b"?" * 100_000)
    async with serve(CONTENT) as server:
        await fetch(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["", "unbounded"])
async def test_a_server_without_ranges_or_length_still_serves(serve, target, fault):
    async with serve(CONTENT) as server:
        server.ranges, server.faults = False, [fault]
        await fetch(server, target)
    assert target.read_bytes() == CONTENT


async def test_a_wrong_length_gives_no_file(serve, target):
    async with serve(CONTENT) as server:
        server.ranges, server.faults = False, ["promise-more"] * 9
        error = await failure(server, target)
    assert "given up" in error.message


async def test_a_wrong_checksum_is_tried_once_more_and_then_given_up_with_nothing_kept(serve, target):
    async with serve(CONTENT) as server:
        error = await failure(server, target, sha256="0" * 64)
        assert len(server.requests) == 2
    assert "not the one expected" in error.message
    assert error.retry is Retry.NO
    assert "kept" not in error.remedy
    assert "leave the model out" in error.remedy
    assert leftovers(target) == []


async def test_a_server_that_never_sends_what_was_asked_for_is_given_up_for_now(serve, target):
    target.parent.mkdir()
    async with serve(CONTENT) as server:
        server.faults = [fault for _ in range(3) for fault in ("cut:50000", "status:416")]
        error = await failure(server, target)
    assert error.retry is Retry.SAME
    assert "kept" not in error.remedy
    assert leftovers(target) == []


async def test_an_address_that_is_none_is_a_failure_like_any_other(target):
    error = await failure(None, target, url="https://host:port/m.bin?key=secret")
    assert "address" in error.message
    assert "secret" not in str(error)
    assert error.retry is Retry.NO


async def test_a_cut_off_model_without_a_checksum_is_refused(serve, tmp_path, put):
    whole = put(tmp_path / "x.safetensors").read_bytes()
    async with serve(whole[:-1]) as server:
        error = await failure(server, tmp_path / "compvis" / "m.safetensors", sha256=None)
    assert "cut off" in error.message


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "token"), (403, "token"), (404, "gone"), (410, "gone"), (451, "country")]
)
async def test_a_final_no_is_asked_once_and_tells_the_remedy(serve, target, status, remedy):
    async with serve(CONTENT) as server:
        server.faults = [f"status:{status}"]
        error = await failure(server, target)
        assert len(server.requests) == 1
    assert str(status) in error.message
    assert remedy in error.remedy


async def test_a_redirect_into_the_own_network_is_not_followed(serve, target):
    async with serve(CONTENT) as server:
        redirecting = httpx.MockTransport(lambda _: httpx.Response(302, headers={"location": server.url}))
        async with httpx.AsyncClient(transport=redirecting, event_hooks={"request": [only_public()]}) as http:
            fetcher = Downloader(http, HashStore(target.parents[1]), first_pause_s=0.0)
            with pytest.raises(AddressRefused, match="no public address") as caught:
                await fetcher.fetch(Download("https://public.example/m.bin", target, SHA256))
        assert server.requests == []
    assert caught.value.retry is Retry.NO
    assert leftovers(target) == []


@pytest.mark.usefixtures("no_least_wait")
async def test_a_server_in_trouble_is_asked_again_but_not_for_ever(serve, target):
    async with serve(CONTENT) as server:
        server.faults = ["status:503", "status:429", "status:500"]
        await fetch(server, target)
        target.unlink()
        server.faults, server.requests = ["status:503"] * 99, []
        error = await failure(server, target)
        assert len(server.requests) == 5
    assert "503" in error.message


async def test_a_login_page_is_no_model(serve, target):
    async with serve(b"<html>") as server:
        server.content_type = "text/html; charset=utf-8"
        error = await failure(server, target)
    assert "web page" in error.message
    assert "token" in error.remedy


async def test_a_drip_is_broken_off_and_given_up(serve, target):
    limits = TransferLimits(slow_bytes_per_s=1e6, slow_window_s=0.05)
    async with serve(CONTENT) as server:
        server.faults = ["drip"] * 5
        error = await failure(server, target, limits=limits)
        assert len(server.requests) == 5
    assert "bytes came in" in error.message


async def test_a_download_that_takes_too_long_is_broken_off_and_goes_on_when_it_is_asked_for_again(serve, target):
    async with serve(CONTENT) as server:
        server.held = {"/m.bin"}
        error = await failure(server, target, limit_s=0.5)
        server.held.clear()
        await fetch(server, target)
        assert server.requests[-1]["range"] != "bytes=0-"
    assert "within 0.5 s" in error.message
    assert "kept" in error.remedy
    assert error.retry is Retry.SAME
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["", "unbounded"])
async def test_a_file_above_the_bound_is_refused(serve, target, fault):
    async with serve(CONTENT) as server:
        server.faults = [fault]
        server.ranges = fault == ""
        error = await failure(server, target, limits=TransferLimits(max_bytes=1000))
    assert "more than" in error.message


async def test_a_full_disk_is_noticed_before_anything_is_written(serve, target):
    async with serve(CONTENT) as server:
        error = await failure(server, target, reserve_bytes=2**62)
    assert "Free disk space" in error.remedy
    assert leftovers(target) == []


async def test_a_dead_host_is_given_up(target, serve):
    async with serve(CONTENT) as server:
        url = server.url
    error = await failure(None, target, url=url)
    assert "given up" in error.message


async def test_many_waiters_share_one_download(serve, target):
    async with serve(CONTENT) as server, downloader(target.parents[1]) as fetcher:
        download = Download(server.url, target, SHA256)
        assert await asyncio.gather(*(fetcher.fetch(download) for _ in range(5))) == [target] * 5
        assert len(server.requests) == 1


async def test_two_workers_with_one_folder_fetch_a_file_once(serve, target, monkeypatch):
    monkeypatch.setattr(file_lock, "RETRY_S", 0.01)
    async with serve(CONTENT) as server, downloader(target.parents[1]) as one, downloader(target.parents[1]) as other:
        server.held = {"/m.bin"}
        first = asyncio.create_task(one.fetch(Download(server.url, target, SHA256)))
        while not server.requests:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(other.fetch(Download(server.url, target, SHA256)))
        await asyncio.sleep(0.05)
        server.held.clear()
        assert await asyncio.gather(first, second) == [target] * 2
        assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT


async def test_a_waiter_that_goes_leaves_the_download_running(serve, target):
    async with serve(CONTENT) as server, downloader(target.parents[1]) as fetcher:
        download = Download(server.url, target, SHA256)
        impatient = asyncio.create_task(fetcher.fetch(download))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await fetcher.fetch(download) == target
        assert len(server.requests) == 1


async def test_progress_is_told_from_waiting_to_done(serve, target):
    seen = []
    async with serve(CONTENT) as server:
        await fetch(server, target, on_progress=seen.append)
    assert [seen[0].state, seen[-1].state] == [DownloadState.WAITING, DownloadState.DONE]
    assert (seen[-1].done, seen[-1].total) == (len(CONTENT), len(CONTENT))


async def test_a_token_goes_to_its_host_only_over_tls_and_never_into_messages(target):
    seen = []

    def answer(request):
        seen.append((request.url.host, request.headers.get("authorization")))
        if request.url.host == "civitai.com":
            return httpx.Response(302, headers={"location": "https://cdn.example/f?sig=1"})
        return httpx.Response(404)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        fetcher = Downloader(http, HashStore(target.parent), tokens={"civitai.com": "secret"})
        for url in ("https://civitai.com/x?token=abc", "http://sub.civitai.com/x", "https://evil-civitai.com/x"):
            with pytest.raises(DownloadError) as caught:
                await fetcher.fetch(Download(url, target))
            assert "secret" not in str(caught.value)
            assert "abc" not in str(caught.value)
    assert seen == [
        ("civitai.com", "Bearer secret"), ("cdn.example", None), ("sub.civitai.com", None), ("evil-civitai.com", None),
    ]  # fmt: skip


async def test_all_transfers_together_keep_the_bandwidth_bound(monkeypatch):
    pauses = []

    async def note(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    throttle = Throttle(bytes_per_s=100)
    for _ in range(4):
        await throttle.take(1000)
    assert pauses == pytest.approx([0, 10, 20, 30], abs=1)
    await Throttle().take(10**12)
    assert len(pauses) == 4


async def test_a_plan_counts_only_what_is_still_to_come(serve, target):
    async with serve(CONTENT) as server:
        server.faults = ["cut:50000", "status:403"]
        await failure(server, target)
        sized = Download(server.url, target, size=300_000)
        assert estimate_bytes([sized, Download("https://x/y", target.with_name("y"))]) == (250_000, 1)


async def test_a_download_survives_kill_9_and_goes_on_from_there(serve, target, tmp_path):
    script = tmp_path / "fetch.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        import httpx
        from worker.models.download import transfer
        from worker.models.download.downloader import Download, Downloader
        from worker.models.disk.checksums import HashStore

        transfer.WRITE_BYTES = transfer.SAVE_BYTES = 1000

        async def main():
            async with httpx.AsyncClient(trust_env=False) as http:
                target = Path(sys.argv[2])
                await Downloader(http, HashStore(target.parent), reserve_bytes=0).fetch(Download(sys.argv[1], target))

        asyncio.run(main())
        """)
    )
    async with serve(CONTENT) as server:
        server.faults = ["drip:1000"]
        child = await asyncio.create_subprocess_exec(sys.executable, script, server.url, target)
        note = PartFile(target)
        try:
            async with timeout(30):
                while not (state := note.load(server.url)) or state.done < 2000:
                    await asyncio.sleep(0.02)
        finally:
            child.kill()
            await child.wait()
        server.requests.clear()
        await fetch(server, target)
        first = int(server.requests[0]["range"].removeprefix("bytes=").split("-")[0])
    assert first >= 2000
    assert target.read_bytes() == CONTENT
