"""Bodies of HTTP responses, read raw and counted as they arrive.

A few kilobytes that are unpacked into gigabytes stall and fill the worker before any bound on the unpacked size is
looked at. So no compression is ever asked for, an answer that is compressed all the same is refused, and nothing here
unpacks. The time of the whole exchange, headers included, is the caller's to bound (`worker.aio.timeout`).
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import httpx

from worker.errors import InputRefused

#: The header of every request whose answer is read here.
IDENTITY: Final = {"Accept-Encoding": "identity"}
#: Longest time between two looks at the event loop while pieces come from a buffer. Short, for some dozens of bodies
#: may come at once.
TURN_S: Final = 0.002
#: A body of more pieces than this, of fewer bytes on average, is refused: each costs the parser of HTTP some 20 us, so
#: that a megabyte of one byte each costs half a minute. Servers send pieces of kilobytes.
MOST_CRUMBS: Final = 1000
CRUMB_BYTES: Final = 64


class SlowWatch:
    """Tells when a transfer drips: less than `least_bytes_per_s` on average over a window of `window_s` seconds."""

    def __init__(self, least_bytes_per_s: float, window_s: float) -> None:
        self._least_bytes = least_bytes_per_s * window_s
        self._window_s = window_s
        self._since_s = time.monotonic()
        self._bytes = 0

    def drips(self, count: int) -> str:
        """Count bytes that arrived; what is wrong when a whole window brought too few, else nothing."""
        self._bytes += count
        now_s = time.monotonic()
        passed_s = now_s - self._since_s
        if passed_s < self._window_s:
            return ""
        slow = f"only {self._bytes} bytes came in {passed_s:.0f} s" if self._bytes < self._least_bytes else ""
        self._since_s, self._bytes = now_s, 0
        return slow


def refuse_coding(response: httpx.Response) -> None:
    """Raise InputRefused when the body is compressed in whatever way; only `identity` was asked for."""
    codings = [
        coding.strip()
        for value in response.headers.get_list("content-encoding")
        for coding in value.split(",")
        if coding.strip().casefold() not in {"", "identity"}
    ]
    if codings:
        raise InputRefused(f"The answer is compressed ({', '.join(codings)[:60]}), which was not asked for.")


def refuse_length(response: httpx.Response, max_bytes: int) -> None:
    """Raise InputRefused when the answer declares more bytes than that."""
    declared = response.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise InputRefused(f"The answer has {declared[:20]} bytes, more than {max_bytes}.")


async def iter_body(response: httpx.Response, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
    """The body's bytes as they come over the wire. Raises InputRefused, httpx.RequestError.

    More than `max_bytes` are refused when they have come; what is within the bound is handed out before. So are pieces
    of a few bytes each.
    """
    refuse_coding(response)
    if response.is_stream_consumed:  # a response made in memory, without a network
        yield response.content
        return
    count = pieces = 0
    turn_ends_s = time.monotonic() + TURN_S
    async for piece in response.aiter_raw():
        count, pieces = count + len(piece), pieces + 1
        if pieces > MOST_CRUMBS and count < pieces * CRUMB_BYTES:
            raise InputRefused(f"The answer comes in more than {MOST_CRUMBS} pieces of less than {CRUMB_BYTES} bytes.")
        if max_bytes is not None and count > max_bytes:
            if kept := piece[: len(piece) - (count - max_bytes)]:
                yield kept
            raise InputRefused(f"The answer has more than {max_bytes} bytes.")
        yield piece
        if time.monotonic() > turn_ends_s:
            await asyncio.sleep(0)
            turn_ends_s = time.monotonic() + TURN_S


async def read_body(response: httpx.Response, *, max_bytes: int) -> bytes:
    """The whole body. Raises InputRefused, httpx.RequestError."""
    refuse_length(response, max_bytes)
    body = bytearray()
    async for piece in iter_body(response, max_bytes=max_bytes):
        body += piece
    return bytes(body)
