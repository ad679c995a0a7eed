"""One try at getting the bytes of one address into a part file: resumed, in parallel segments, never too slow.

What goes wrong is either final (`DownloadFailed`), worth another try (`TransferBroken`), or means that what is on
disk is of no use (`TransferStale`).
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx

from worker.aio import to_the_end
from worker.errors import WorkerError
from worker.models.download.part_file import PartFile, PartState, Segment, split
from worker.untrusted.retry_after import retry_after_s

#: Bytes gathered before they are written: few thread switches, little lost by a cut.
WRITE_BYTES: Final = 1024 * 1024
#: Bytes between two notes of what is on disk.
SAVE_BYTES: Final = 32 * 1024 * 1024
MIB: Final = 1024 * 1024

T = TypeVar("T")

_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18})")
#: Answers that another try does not change, with what the owner can do.
FINAL: Final[Mapping[int, str]] = {
    401: "Set a token for this host (civitai_api_token, or HF_TOKEN).",
    403: "Set a token for this host, accept the model's terms there, or leave the model out.",
    404: "The file is gone; wait for the model reference to be mended, or leave the model out.",
    410: "The file is gone; wait for the model reference to be mended, or leave the model out.",
    451: "The host does not serve your country; put the file in place by hand, or leave the model out.",
}


class DownloadFailed(WorkerError):
    """The file can't be had. `final`: asking again later gives the same answer, unless the owner does something."""

    def __init__(self, message: str, *, remedy: str = "", final: bool = True) -> None:
        super().__init__(message, remedy=remedy)
        self.final = final


class TransferBroken(WorkerError):
    """The transfer broke off; another try goes on from there. `retry_after_s`: when the server wants to be asked."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TransferStale(WorkerError):
    """What is on disk does not fit what the server has now."""


@dataclass(frozen=True)
class Limits:
    """Bounds of a transfer."""

    #: a file of more bytes is refused
    max_bytes: int = 64 * 1024 * MIB
    #: files from this size on are fetched in several segments at once
    segment_from_bytes: int = 64 * MIB
    segments: int = 4
    #: slower than this over a window of `slow_window_s` is as good as stuck
    slow_bytes_per_s: float = 2048.0
    slow_window_s: float = 60.0


class Throttle:
    """Shares a bandwidth among all transfers. `bytes_per_s` 0: no bound."""

    def __init__(self, bytes_per_s: float = 0.0) -> None:
        self.bytes_per_s = bytes_per_s
        self._free_at_s = 0.0

    async def take(self, count: int) -> None:
        if self.bytes_per_s <= 0:
            return
        now_s = time.monotonic()
        start_s = max(now_s, self._free_at_s)
        self._free_at_s = start_s + count / self.bytes_per_s
        await asyncio.sleep(start_s - now_s)


class Transfer:
    """One try. `run` returns with the part file whole, or raises; what arrived is kept for the next one."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        part: PartFile,
        *,
        headers: Mapping[str, str],
        limits: Limits,
        throttle: Throttle,
        check_room: Callable[[int], None],
    ) -> None:
        self.state: PartState | None = None
        self._http = http
        self._url = url
        self._part = part
        self._headers = {**headers, "accept-encoding": "identity"}
        self._limits = limits
        self._throttle = throttle
        self._check_room = check_room
        self._unsaved = 0

    async def run(self) -> PartState:
        """Raises DownloadFailed, TransferBroken, TransferStale, OSError (the disk)."""
        self.state = await asyncio.to_thread(self._part.load, self._url)
        if self.state and self.state.complete:
            return self.state
        first = next(s for s in self.state.segments if not s.complete) if self.state else Segment(0, None)
        try:
            async with self._request(first) as response:
                state = self.state = await self._accept(response, self.state)
                if state.complete:
                    return state
                first = next(segment for segment in state.segments if not segment.complete)
                rest = [segment for segment in state.segments if not segment.complete and segment is not first]
                await _together([self._read(response, first), *(self._fetch(segment) for segment in rest)])
            return state
        except httpx.HTTPError as error:
            raise TransferBroken(f"the connection broke: {str(error) or type(error).__name__}") from error
        finally:
            if self.state and self._part.path.exists():
                await _on_disk(self._part.save, self.state)

    def _request(self, segment: Segment) -> AbstractAsyncContextManager[httpx.Response]:
        upto = "" if segment.end is None or self.state is None else str(segment.end - 1)
        headers = {**self._headers, "range": f"bytes={segment.position}-{upto}"}
        if self.state and self.state.etag:
            headers["if-range"] = self.state.etag
        return self._http.stream("GET", self._url, headers=headers, follow_redirects=True)

    async def _accept(self, response: httpx.Response, state: PartState | None) -> PartState:
        """The state that the first answer leaves: the one on disk, or a new one."""
        position = next(s.position for s in state.segments if not s.complete) if state else 0
        etag = _strong_etag(response)
        match response.status_code:
            case 206:
                start, total = _content_range(response)
                if start != position:
                    raise TransferStale(f"the server sends bytes from {start} instead of {position}")
                if state and ((state.total or total) != total or (state.etag and etag and state.etag != etag)):
                    raise TransferStale("the file has changed on the server")
                if state:
                    # A bare part of another program: one segment whose end was unknown until now.
                    state.total, state.etag = total, state.etag or etag
                    if state.segments[-1].end is None:
                        state.segments[-1].end = total
                    return state
                self._check_size(total)
                count = self._limits.segments if total >= self._limits.segment_from_bytes and etag else 1
                fresh = PartState(self._url, etag, total, split(total, count))
            case 200:
                length = int(response.headers.get("content-length") or 0) or None
                self._check_size(length or 0)
                # A server that ignores ranges sends all from the start; nothing on disk can be used.
                fresh = PartState(self._url, etag, length, [Segment(0, length)])
            case 416 if state and state.total is None and _size_of_416(response) == position:
                # A part that another program left when it was whole already.
                state.total = state.segments[-1].end = position
                return state
            case _:
                raise _status_error(response)
        _refuse_pages(response)
        await _on_disk(self._part.create, fresh)
        return fresh

    def _check_size(self, total: int) -> None:
        if total > self._limits.max_bytes:
            raise DownloadFailed(f"the file has {total / MIB:.0f} MiB, more than {self._limits.max_bytes / MIB:.0f}.")
        self._check_room(total)

    async def _fetch(self, segment: Segment) -> None:
        async with self._request(segment) as response:
            if response.status_code == httpx.codes.OK:
                raise TransferStale("the file has changed on the server")
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                raise _status_error(response)
            etag = _strong_etag(response)
            if _content_range(response)[0] != segment.position or (self.state and etag and etag != self.state.etag):
                raise TransferStale("the server sends other bytes than asked for")
            await self._read(response, segment)

    async def _read(self, response: httpx.Response, segment: Segment) -> None:
        """Write the segment's bytes as they come. The server may send more than the segment; that is left."""
        pending = bytearray()
        watch = _SlowWatch(self._limits, self._throttle)
        try:
            async for chunk in response.aiter_raw():
                room = None if segment.end is None else segment.end - segment.position - len(pending)
                piece = chunk if room is None else chunk[:room]
                await self._throttle.take(len(piece))
                watch.count(len(piece))
                pending += piece
                if segment.position + len(pending) > self._limits.max_bytes:
                    raise DownloadFailed(f"the file has more than {self._limits.max_bytes / MIB:.0f} MiB.")
                if len(pending) >= WRITE_BYTES:
                    block, pending = pending, bytearray()
                    await _on_disk(self._write, segment, block)
                    await self._save_now_and_then()
                if room is not None and len(piece) == room:
                    break
        finally:
            if pending:
                self._write(segment, pending)
        if segment.end is None:
            segment.end = segment.position
        if not segment.complete:
            raise TransferBroken(f"the server stopped {segment.end - segment.position} bytes early")

    def _write(self, segment: Segment, data: bytearray) -> None:
        self._part.write(segment.position, data)
        segment.done += len(data)
        self._unsaved += len(data)

    async def _save_now_and_then(self) -> None:
        if self._unsaved >= SAVE_BYTES and self.state:
            self._unsaved = 0
            await _on_disk(self._part.save, self.state)


class _SlowWatch:
    """Breaks off a transfer that drips."""

    def __init__(self, limits: Limits, throttle: Throttle) -> None:
        least = limits.slow_bytes_per_s
        if throttle.bytes_per_s:
            # With a bandwidth bound shared by many, a slow transfer may be our own doing.
            least = min(least, throttle.bytes_per_s / (8 * limits.segments))
        self._least_bytes = least * limits.slow_window_s
        self._window_s = limits.slow_window_s
        self._since_s = time.monotonic()
        self._bytes = 0

    def count(self, count: int) -> None:
        self._bytes += count
        now_s = time.monotonic()
        if now_s - self._since_s < self._window_s:
            return
        if self._bytes < self._least_bytes:
            raise TransferBroken(f"only {self._bytes} bytes came in {now_s - self._since_s:.0f} s")
        self._since_s, self._bytes = now_s, 0


async def _together(coroutines: list[object]) -> None:
    """Run all; when one fails, end the others before its error goes on."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]  # type: ignore[call-overload]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _on_disk(work: Callable[..., T], *arguments: Any) -> T:
    """Work of a thread, which goes on when its caller is cancelled: what is noted next must not miss what it does."""
    return await to_the_end(asyncio.to_thread(work, *arguments))


def _strong_etag(response: httpx.Response) -> str:
    etag = response.headers.get("etag", "")
    return "" if etag.startswith("W/") else etag


def _content_range(response: httpx.Response) -> tuple[int, int]:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if not match or match[1] is None:
        raise TransferStale("the server does not say which bytes it sends")
    return int(match[1]), int(match[2])


def _size_of_416(response: httpx.Response) -> int:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    return int(match[2]) if match else -1


def _refuse_pages(response: httpx.Response) -> None:
    """A web page instead of a model: a login form, mostly."""
    if response.headers.get("content-type", "").startswith("text/html"):
        raise DownloadFailed("the server sends a web page instead of the file.", remedy=FINAL[401])


def _status_error(response: httpx.Response) -> WorkerError:
    status = response.status_code
    if status in FINAL or (400 <= status < 500 and status not in {408, 416, 425, 429}):  # noqa: PLR2004 - HTTP's client errors
        return DownloadFailed(f"the server answers {status}.", remedy=FINAL.get(status, ""))
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return TransferStale("the server has no bytes where some are missing")
    after = response.headers.get("retry-after")
    return TransferBroken(f"the server answers {status}", retry_after_s=retry_after_s(after) if after else 0.0)
