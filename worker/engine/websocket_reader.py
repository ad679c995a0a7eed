"""Reads an engine's websocket in a thread of its own.

The thread turns messages into events (the pictures' bytes are checked and decoded there, off the event loop) and hands
them to asyncio.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import websocket
from loguru import logger

from worker.engine import events


def open_socket(url: str, headers: Mapping[str, str], timeout_s: float) -> websocket.WebSocket:
    """Connect and greet; blocks for `timeout_s` at most. Raises OSError or WebSocketException.

    The TCP connection is made here: websocket-client would send it through a proxy that the environment names.
    """
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout_s)
    opened = websocket.create_connection(
        url, socket=connection, header=dict(headers), timeout=timeout_s, skip_utf8_validation=True
    )
    try:
        opened.settimeout(None)
        opened.send(events.FEATURE_FLAGS)
    except BaseException:
        opened.shutdown()
        raise
    return opened


def discard(opening: asyncio.Future[websocket.WebSocket]) -> None:
    """Close the socket that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().shutdown()


@dataclass(eq=False)
class SocketReader:
    """The thread that reads one websocket until it closes."""

    socket: websocket.WebSocket
    loop: asyncio.AbstractEventLoop
    on_event: Callable[[events.Event], None]
    on_lost: Callable[[str], None]
    #: the socket is closed
    ended: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._read, name="engine-reader", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Close the socket under the reader and wait for it."""
        # The reader may be closing it at this moment, or the engine have done so.
        with contextlib.suppress(OSError, AttributeError):
            self.socket.abort()
        await asyncio.to_thread(self._thread.join, 5.0)

    def _read(self) -> None:
        reason = "closed by the engine"
        try:
            while True:
                opcode, message = self.socket.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    break
                event = self._parse(opcode, message)
                if event is not None:
                    self.loop.call_soon_threadsafe(self.on_event, event)
        except (OSError, websocket.WebSocketException) as error:
            reason = str(error) or type(error).__name__
        finally:
            self.ended = True
            self.socket.shutdown()
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(self.on_lost, reason)

    @staticmethod
    def _parse(opcode: int, message: bytes) -> events.Event | None:
        if opcode == websocket.ABNF.OPCODE_TEXT:
            return events.parse_text(message.decode(errors="replace"))
        try:
            return events.parse_binary(message)
        except ValueError as error:
            # The prompt will end without this image, and it is asked for again.
            logger.warning("Dropped {}", error)
            return None
