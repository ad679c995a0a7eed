"""Answers that go wrong on the wire: dripped, never given, or no HTTP. Pure ASGI responses.

A broken connection needs the server's transport, which `worker.demo.horde.server` leaves in the request's state;
under another server such a fault is an empty 500.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from worker.aio import meanwhile
from worker.demo.horde.hostile import CHUNK, CHUNK_EVERY_S

#: Key of the transport in the request's state.
TRANSPORT = "horde_transport"
#: SO_LINGER on, with no time: closing sends a reset instead of a farewell.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_DRIP_PIECES = 20
#: Longer than any client waits.
_MOST_CHUNKS = 1200

#: Waits so many seconds, or less when the server stops.
Pause = Callable[[float], Coroutine[Any, Any, None]]


class BrokenResponse(Response):
    """No answer: after `seconds`, or when the client gives up before, the connection is reset."""

    def __init__(self, seconds: float, pause: Pause) -> None:
        super().__init__(status_code=500)
        self._seconds = seconds
        self._pause = pause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport | None = scope.get("state", {}).get(TRANSPORT)
        if transport is None:
            await super().__call__(scope, receive, send)
            return
        await _either(self._pause(self._seconds), _disconnected(receive))
        connection = transport.get_extra_info("socket")
        if connection is not None and not transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
        await _disconnected(receive)


class DrippingResponse(Response):
    """A true answer in small pieces over `seconds`; `lost` is called when the client does not wait for the end."""

    def __init__(self, answer: Response, seconds: float, pause: Pause, lost: Callable[[], None]) -> None:
        super().__init__(bytes(answer.body), answer.status_code, media_type=answer.media_type)
        self._seconds = seconds
        self._pause = pause
        self._lost = lost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        body = bytes(self.body)
        step = max(1, -(-len(body) // _DRIP_PIECES))
        pieces = [body[start : start + step] for start in range(0, len(body), step)]
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            for piece in pieces:
                await self._pause(self._seconds / len(pieces))
                if gone.done():
                    self._lost()
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class RawResponse(Response):
    """These bytes in the place of an HTTP answer, then the end of the connection.

    `endless`: before that end, chunks of one byte until the client leaves.
    """

    def __init__(self, raw: bytes, pause: Pause, *, endless: bool = False) -> None:
        super().__init__(status_code=500)
        self._raw = raw
        self._pause = pause
        self._endless = endless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport | None = scope.get("state", {}).get(TRANSPORT)
        if transport is None:
            await super().__call__(scope, receive, send)
            return
        transport.write(self._raw)
        if self._endless:
            await _either(self._drip(transport), _disconnected(receive))
        transport.close()
        await _disconnected(receive)

    async def _drip(self, transport: asyncio.Transport) -> None:
        for _ in range(_MOST_CHUNKS):
            await self._pause(CHUNK_EVERY_S)
            if transport.is_closing():
                return
            transport.write(CHUNK)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _either(*waits: Coroutine[Any, Any, None]) -> None:
    """Returns when the first is over; the others are cancelled and gone."""
    async with meanwhile(*waits) as tasks:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
