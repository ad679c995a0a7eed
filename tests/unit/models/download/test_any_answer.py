"""Downloads from a server that answers anything: what may be left on disk, and how a download may end."""

import asyncio
import hashlib
import json
import struct
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from worker.errors import DownloadError, Retry
from worker.models.catalog.documents import fetch_json
from worker.models.disk.checksums import HashStore
from worker.models.download import downloader
from worker.models.download.downloader import Download, Downloader
from worker.models.download.transfer import TransferLimits
from worker.untrusted.addresses import only_public, only_web
from worker.untrusted.http_head import bounded_head

_HEADER = json.dumps({"w": {"dtype": "U8", "shape": [1900], "data_offsets": [0, 1900]}}).encode()
CONTENT = struct.pack("<Q", len(_HEADER)) + _HEADER + bytes(index % 251 for index in range(1900))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MAX_BYTES = 4000
#: A try counts as progress from 500 bytes on.
LIMITS = TransferLimits(max_bytes=MAX_BYTES, slow_bytes_per_s=0.5, slow_window_s=1000.0)
#: At most 8 tries with progress for each of 6 beginnings (the first, 3 restarts, 2 wrong files), 4 without between two
#: of them, and 11 requests for each try.
MOST_REQUESTS = 6 * 8 * 5 * 11
#: Refusals that the owner can turn into a yes.
OWNERS = {401, 403, 451}
INSIDE = "<inside>"

STATUSES = [
    200,
    206,
    302,
    100,
    101,
    199,
    204,
    301,
    303,
    304,
    307,
    308,
    400,
    401,
    403,
    404,
    408,
    410,
    416,
    418,
    429,
    451,
]
LENGTHS = [None, "body", "more", "less", "0", "-1", "+5", "9" * 18, "9" * 20, "9" * 5000, "x", "", "5, 6", "٣"]
RANGES = [
    None, "asked", "bytes */{size}", "bytes 0-9/{size}", "bytes 0-0/0", "bytes 0-0/*", "bytes 9-1/5", "bytes -1-5/9",
    "items 0-1/2", "", f"bytes 0-1/{'9' * 18}", f"bytes 0-1/{'9' * 30}", "bytes 99999-1/{size}",
]  # fmt: skip
CODINGS = [None, "identity", "gzip", "br", "deflate", "zstd", "x-own", "gzip, gzip", "", ","]
KINDS = [None, "application/octet-stream", "text/html; charset=utf-8", "application/json", "?"]
ETAGS = [None, '"1"', '"2"', 'W/"1"', "", "ä"]
PAUSES = [None, "0", "-9", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "nan", "inf" * 9]
LOCATIONS = [
    None, "", "/m", "?", "#", "//", "http:", "http://", "http:///m", INSIDE, "http://2130706433/m", "http://10.0.0.1/m",
    "http://[::ffff:127.0.0.1]:9/m", "http://169.254.169.254/", "http://files.internal/m", "https://localhost/m",
    "file:///etc/passwd", "ftp://127.0.0.1/m", "data:,x", "javascript:1", "http://[::1", "http://a..b/m", "http://./m",
    "https://.a/m", f"http://{'a' * 64}/m", "http://127.0.0.1:0/m", "http://127.0.0.1:99999/m", "http://xn--a/m",
    "http://ä..ö/m", "http://a b/m", "http://%00/m", "http://u:p@127.0.0.1:1/m", "/" + "x" * 9000, "/\x7f", "../../m",
]  # fmt: skip
BODIES = {
    "right": CONTENT,
    "short": CONTENT[:-300],
    "long": CONTENT + b"more",
    "huge": CONTENT * 3,
    "page": b"<!doctype html><html>Log in</html>",
    "other": CONTENT[::-1],
    "none": b"",
}


@dataclass(frozen=True)
class Answer:
    """One answer: sent up to `cut` bytes of it, then the connection ends, by a reset where `reset`."""

    status: int = 200
    body: str = "right"
    length: str | None = "body"
    content_range: str | None = None
    coding: str | None = None
    kind: str | None = None
    etag: str | None = None
    pause: str | None = None
    location: str | None = None
    cut: int | None = None
    reset: bool = False

    def spell(self, start: int, inside: str) -> bytes:
        """The bytes of this answer to a request from `start` on."""
        whole = BODIES[self.body]
        body = whole[start:] if self.content_range == "asked" else whole
        asked = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        lengths = {"body": str(len(body)), "more": str(len(body) + 100), "less": str(max(0, len(body) - 100))}
        ranged = self.content_range and self.content_range.format(size=len(whole))
        headers = {
            "content-length": lengths.get(self.length or "", self.length),
            "content-range": asked if self.content_range == "asked" else ranged,
            "content-encoding": self.coding,
            "content-type": self.kind,
            "etag": self.etag,
            "retry-after": self.pause,
            "location": inside if self.location == INSIDE else self.location,
        }
        lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value is not None]
        head = f"HTTP/1.1 {self.status} X\r\n{''.join(lines)}connection: close\r\n\r\n"
        return (head.encode() + body)[: self.cut]


def rarely(values):
    """The first value half of the time, since an answer odd in every way is refused at its first oddity."""
    return st.one_of(st.just(values[0]), st.sampled_from(values))


ANSWERS = st.one_of(
    # Nearly right, so that parts come together and are resumed.
    st.builds(
        Answer,
        status=st.just(206), content_range=st.just("asked"), body=rarely(list(BODIES)), length=rarely(LENGTHS[1:]),
        etag=rarely(ETAGS), coding=rarely(CODINGS), cut=st.none() | st.integers(0, 2200), reset=st.booleans(),
    ),
    st.builds(
        Answer,
        status=st.sampled_from(STATUSES), body=rarely(list(BODIES)),
        length=st.sampled_from(LENGTHS), content_range=rarely(RANGES), coding=rarely(CODINGS), kind=rarely(KINDS),
        etag=rarely(ETAGS), pause=rarely(PAUSES), location=rarely(LOCATIONS), cut=st.none() | st.integers(0, 2200),
        reset=st.booleans(),
    ),
    st.builds(Answer, status=st.sampled_from([301, 302, 303, 307, 308]), location=st.sampled_from(LOCATIONS)),
)  # fmt: skip


class AnyServer:
    """Gives these answers, in turn and over again; beside it a server inside, which nobody may reach."""

    def __init__(self, answers):
        self.answers = answers
        self.requests = self.intruders = 0
        self.port = self.inside_port = 0
        self._handlers = set()

    @asynccontextmanager
    async def running(self):
        servers = [await asyncio.start_server(each, "127.0.0.1", 0) for each in (self._serve, self._intrude)]
        self.port, self.inside_port = (server.sockets[0].getsockname()[1] for server in servers)
        try:
            yield self
        finally:
            for server in servers:
                server.close()
            await asyncio.gather(*self._handlers, return_exceptions=True)
            for server in servers:
                await server.wait_closed()

    async def _intrude(self, _, writer):
        self.intruders += 1
        writer.close()

    async def _serve(self, reader, writer):
        self._handlers.add(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            start = int(head.partition("range: bytes=")[2].partition("-")[0] or 0)
            answer = self.answers[self.requests % len(self.answers)]
            self.requests += 1
            if self.requests > MOST_REQUESTS:
                answer = Answer(status=404)
            writer.write(answer.spell(start, f"http://127.0.0.1:{self.inside_port}/m"))
            await writer.drain()
            if answer.reset:
                writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def is_whole(content):
    """Whether a safetensors file has exactly the bytes that its header tells."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    return len(content) == 8 + size + max(each["data_offsets"][1] for each in header.values())


def client_of(server):
    """A client that may reach the server itself, and no other inside address."""
    public = only_public()

    async def guard(request):
        if (request.url.host, request.url.port) != ("127.0.0.1", server.port):
            await public(request)

    hooks = {"request": [only_web, guard, bounded_head]}
    return httpx.AsyncClient(trust_env=False, verify=False, max_redirects=10, event_hooks=hooks)


async def fetch(url, server, root, target, sha256):
    """Fetch once, without the pauses that a server asks for; the error it ended with, if any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloader, "MAX_PAUSE_S", 0.0)
        async with client_of(server) as http:
            fetcher = Downloader(http, HashStore(root), limits=LIMITS, first_pause_s=0.0, reserve_bytes=0)
            try:
                await fetcher.fetch(Download(url, target, sha256))
            except DownloadError as error:
                return error
            finally:
                await fetcher.close()
    return None


async def check(answers, sha256, begun, outside):
    root = outside / "models"
    target = root / "compvis" / "m.safetensors"
    part, note = (target.with_name(target.name + suffix) for suffix in (".part", ".part.json"))
    if begun is not None:
        target.parent.mkdir(parents=True)
        part.write_bytes(begun)
    async with AnyServer(answers).running() as server:
        error = await fetch(f"http://127.0.0.1:{server.port}/m", server, root, target, sha256)
    assert server.requests <= MOST_REQUESTS
    assert server.intruders == 0
    assert target.exists() == (error is None)
    if error is None:
        assert is_whole(target.read_bytes())
        assert sha256 is None or target.read_bytes() == CONTENT
    if error is None or (error.retry is Retry.NO and error.status not in OWNERS):
        assert not part.exists()
        assert not note.exists()
    assert [path.name for path in outside.iterdir()] == ["models"]
    files = {path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert files <= {target, target.with_suffix(".sha256"), part, note}
    assert all(path.stat().st_size <= MAX_BYTES for path in files if path in {target, part})


@settings(max_examples=settings().max_examples * 3 // 2, suppress_health_check=[HealthCheck.too_slow])
@given(
    answers=st.lists(ANSWERS, min_size=1, max_size=5),
    sha256=st.sampled_from([SHA256, None]),
    begun=st.sampled_from([None, CONTENT[:700], CONTENT, b"?" * 700, b""]),
)
@example(answers=[Answer()], sha256=SHA256, begun=None)
@example(answers=[Answer(status=206, content_range="asked", cut=900)], sha256=SHA256, begun=None)
def test_whatever_a_host_answers_only_a_whole_and_right_file_gets_its_name(answers, sha256, begun):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(answers, sha256, begun, Path(folder)))


@pytest.mark.parametrize("location", LOCATIONS)
def test_whatever_a_redirect_names_ends_as_a_failed_download(location):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check([Answer(status=302, location=location, body="none")], SHA256, None, Path(folder)))


@pytest.mark.parametrize("location", [each for each in LOCATIONS if each not in {None, INSIDE}])
def test_whatever_is_an_address_of_a_download_ends_as_a_failed_download(location):
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "compvis", "m.safetensors")
        error = asyncio.run(fetch(location, AnyServer([]), target.parents[1], target, SHA256))
        assert error is not None
        assert not target.exists()


@pytest.mark.parametrize("location", LOCATIONS)
async def test_whatever_a_redirect_names_ends_as_a_failed_request_for_a_document(location):
    async with AnyServer([Answer(status=302, location=location, body="none")]).running() as server:
        with pytest.raises(DownloadError):
            async with client_of(server) as http:
                await fetch_json(http, f"http://127.0.0.1:{server.port}/m", timeout_s=60.0)
    assert server.intruders == 0
