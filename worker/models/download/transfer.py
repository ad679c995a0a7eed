"""One try at getting a file's bytes over one connection: resumed where possible, bounded in size, never too slow.

It fails with DownloadFailed (another try goes on from there) or DownloadRefused (a final no).
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx

from worker.aio import to_the_end
from worker.errors import DownloadError, DownloadFailed, DownloadRefused, InputRefused
from worker.file_facts import BLOCK_BYTES
from worker.models.download.part_file import PartFile, PartState
from worker.units import MIB
from worker.untrusted.http_body import IDENTITY, SlowWatch, iter_body, refuse_coding
from worker.untrusted.retry_after import is_final_no, retry_after_s

#: Bytes gathered before a write: few thread switches, and little is lost by a cut.
WRITE_BYTES: Final = MIB
#: Transfers that may share the bandwidth bound, and so make each other slow.
SHARES: Final = 32
#: Bytes between two notes of what is on disk.
SAVE_BYTES: Final = 32 * MIB

T = TypeVar("T")

_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18})")
#: Answers that another try does not change → what the owner can do.
REMEDIES: Final[Mapping[int, str]] = {
    401: "Set a token for this host (civitai_api_token, or HF_TOKEN).",
    403: "Set a token for this host, accept the model's terms there, or leave the model out.",
    404: "The file is gone; wait for the model reference to be corrected, or leave the model out.",
    410: "The file is gone; wait for the model reference to be corrected, or leave the model out.",
    451: "The host does not serve your country; put the file in place by hand, or leave the model out.",
}


@dataclass(frozen=True)
class TransferLimits:
    """Bounds of a transfer. Slower than `slow_bytes_per_s` over `slow_window_s` counts as stuck."""

    max_bytes: int = 64 * 1024 * MIB
    slow_bytes_per_s: float = 2048.0
    slow_window_s: float = 60.0


class Throttle:
    """Shares a bandwidth among all transfers. `bytes_per_s` 0: no bound."""

    def __init__(self, bytes_per_s: float = 0.0) -> None:
        self.bytes_per_s = bytes_per_s
        self._free_at_s = 0.0

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes are within the bandwidth."""
        if self.bytes_per_s <= 0:
            return
        now_s = time.monotonic()
        start_s = max(now_s, self._free_at_s)
        self._free_at_s = start_s + count / self.bytes_per_s
        await asyncio.sleep(start_s - now_s)


class Transfer:
    """One try. What arrived is kept for the next one.

    `check_room` is told how many bytes are still to come (0: unknown), and raises where the disk has too few.
    `on_progress` is told the state after each write.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        part: PartFile,
        *,
        headers: Mapping[str, str],
        limits: TransferLimits,
        throttle: Throttle,
        check_room: Callable[[int], None],
        on_progress: Callable[[PartState], None],
    ) -> None:
        self._http = http
        self._url = url
        self._part = part
        self._headers = {**headers, **IDENTITY}
        self._limits = limits
        self._throttle = throttle
        self._check_room = check_room
        self._on_progress = on_progress
        self._state = PartState(url)
        self._digest = hashlib.sha256()
        self._unsaved = 0

    @property
    def done(self) -> int:
        """Bytes on disk that the next try can go on from."""
        return self._state.done

    async def run(self) -> str:
        """Returns the sha256 of the part file, which is whole then.

        Raises DownloadFailed, DownloadRefused, OSError (the disk), and what `check_room` raises.
        """
        kept = await asyncio.to_thread(self._part.load, self._url)
        try:
            if kept:
                self._state = kept
                await asyncio.to_thread(self._hash_kept)
            if not self._state.complete:
                await self._receive()
            return self._digest.hexdigest()
        except httpx.HTTPError as error:
            raise DownloadFailed(f"the connection broke: {str(error).rstrip('.') or type(error).__name__}") from error
        except InputRefused as error:
            raise DownloadRefused(error.message) from error
        finally:
            if self._part.path.exists():
                await _on_disk(self._part.save, self._state)

    async def _receive(self) -> None:
        headers = {**self._headers, "range": f"bytes={self._state.done}-"}
        if self._state.done and self._state.etag:
            headers["if-range"] = self._state.etag
        async with self._http.stream("GET", self._url, headers=headers, follow_redirects=True) as response:
            await self._accept(response)
            self._on_progress(self._state)
            if not self._state.complete:
                await self._read(response)

    async def _accept(self, response: httpx.Response) -> None:
        """Bring the state in line with the answer's head: go on, or start over."""
        state, etag = self._state, _strong_etag(response)
        match response.status_code:
            case 206:
                start, total = _content_range(response)
                if start is None or total is None:
                    raise DownloadFailed("the server does not say which bytes it sends")
                changed = (state.total or total) != total or (state.etag and etag and state.etag != etag)
                if start != state.done or (state.done and changed):
                    await self._discard()
                    raise DownloadFailed("the file has changed on the server")
                _refuse_other_content(response)
                self._check_size(total)
                state.total, state.etag = total, state.etag or etag
                if not state.done:
                    await _on_disk(self._part.create, state)
            case 200:
                # The server ignores ranges, or has another version than the one begun.
                length = response.headers.get("content-length", "")
                _refuse_other_content(response)
                self._state = PartState(self._url, etag, int(length) if length.isdecimal() else None)
                self._digest = hashlib.sha256()
                self._check_size(self._state.total or 0)
                await _on_disk(self._part.create, self._state)
            case 416 if state.total is None and state.done and _content_range(response)[1] == state.done:
                state.total = state.done  # a part that another program left whole
            case 416 if state.done:
                await self._discard()
                raise DownloadFailed("the server has no bytes beyond those on disk")
            case _:
                raise _status_error(response)

    def _check_size(self, total: int) -> None:
        if total > self._limits.max_bytes:
            raise DownloadRefused(f"the file has {total / MIB:.0f} MiB, more than {self._limits.max_bytes / MIB:.0f}.")
        self._check_room(max(0, total - self._state.done))

    async def _read(self, response: httpx.Response) -> None:
        """Write the bytes as they arrive, up to the size that was announced."""
        pending = bytearray()
        watch = SlowWatch(self._least_bytes_per_s(), self._limits.slow_window_s)
        total = self._state.total
        try:
            async for chunk in iter_body(response):
                left = (self._limits.max_bytes if total is None else total) - self._state.done - len(pending)
                if total is None and len(chunk) > left:
                    raise DownloadRefused(f"the file has more than {self._limits.max_bytes / MIB:.0f} MiB.")
                piece = chunk[:left]
                await self._throttle.take(len(piece))
                if slow := watch.drips(len(piece)):
                    raise DownloadFailed(slow)
                pending += piece
                if len(pending) >= WRITE_BYTES:
                    block, pending = pending, bytearray()
                    await _on_disk(self._write, block)
                    await self._save_now_and_then()
                if total is not None and len(piece) == left:
                    break
        finally:
            if pending:
                self._write(pending)
        if total is None:
            self._state.total = self._state.done
        elif not self._state.complete:
            raise DownloadFailed(f"the server stopped {total - self._state.done} bytes early")

    def _write(self, data: bytearray) -> None:
        self._part.append(self._state, data)
        self._digest.update(data)
        self._unsaved += len(data)
        self._on_progress(self._state)

    def _least_bytes_per_s(self) -> float:
        """Slower counts as stuck; less where the owner's bandwidth bound may make a transfer slow."""
        shared = self._throttle.bytes_per_s / SHARES
        return min(self._limits.slow_bytes_per_s, shared) if shared else self._limits.slow_bytes_per_s

    async def _save_now_and_then(self) -> None:
        if self._unsaved >= SAVE_BYTES:
            self._unsaved = 0
            await _on_disk(self._part.save, self._state)
            if self._state.total is None:
                self._check_room(0)

    def _hash_kept(self) -> None:
        left = self._state.done
        with self._part.path.open("rb") as file:
            while left and (block := file.read(min(BLOCK_BYTES, left))):
                self._digest.update(block)
                left -= len(block)

    async def _discard(self) -> None:
        self._state = PartState(self._url)
        await _on_disk(self._part.discard)


async def _on_disk(work: Callable[..., T], *arguments: Any) -> T:
    """Do `work` in a thread and to its end, also when cancelled: what is noted next must include what it does."""
    return await to_the_end(asyncio.to_thread(work, *arguments))


def _strong_etag(response: httpx.Response) -> str:
    etag = response.headers.get("etag", "")
    return "" if etag.startswith("W/") else etag


def _content_range(response: httpx.Response) -> tuple[int | None, int | None]:
    """The first byte that is sent, and the size of the whole; None for what is not said."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None:
        return None, None
    return int(match[1]) if match[1] else None, int(match[2])


def _refuse_other_content(response: httpx.Response) -> None:
    """Refuse what can't be a model file: web pages (mostly a login form), error messages, and compressed bytes."""
    kind = response.headers.get("content-type", "").strip().casefold()
    if kind.startswith(("text/html", "application/json", "application/problem")):
        what = "a web page" if kind.startswith("text/html") else "a message"
        raise DownloadRefused(f"the server sends {what} instead of the file.", status=401, remedy=REMEDIES[401])
    refuse_coding(response)


def _status_error(response: httpx.Response) -> DownloadError:
    status, after = response.status_code, response.headers.get("retry-after")
    # Cloudflare's bot check, which passes.
    is_challenge = response.headers.get("cf-mitigated", "") == "challenge"
    if is_final_no(status) and not is_challenge:
        return DownloadRefused(f"the server answers {status}.", status=status, remedy=REMEDIES.get(status, ""))
    return DownloadFailed(
        f"the server answers {status}", status=status, retry_after_s=retry_after_s(after) if after else 0.0
    )
