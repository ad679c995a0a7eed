"""A file server that serves ranges as real ones do, and misbehaves when told: models for demo and tests.

cut:N            closes after N bytes                 status:N     answers N
promise-more     tells a length it does not keep      redirect:URL sends elsewhere
drip:N           N bytes at a time                    unbounded    tells no length
ignore-if-range  sends ranges of whatever it has now
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

#: Seconds between two pieces of a drip, and between two looks whether a held file is let go.
PAUSE_S: Final = 0.02
THREAD_LIMIT_S: Final = 30.0


@dataclass
class FileServer:
    """Serves `files` by path, `content` for every other path, on the loopback address. Attributes may change any time.

    `faults` are used up one per request, in order.
    """

    content: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"1"'
    ranges: bool = True
    content_type: str = "application/octet-stream"
    faults: list[str] = field(default_factory=list)
    #: paths whose last byte is kept back as long as they are in here
    held: set[str] = field(default_factory=set)
    #: headers of every request, and its path under "path"
    requests: list[dict[str, str]] = field(default_factory=list)
    base: str = ""

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address of `content`."""
        return f"{self.base}/m.bin"

    async def __aenter__(self) -> "FileServer":  # noqa: PYI034 - Self is newer than Python 3.10
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.held.clear()
        self._server.close()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator["FileServer"]:
        """Serve from a thread of its own, for callers without an event loop."""
        started, stop = threading.Event(), threading.Event()

        async def live() -> None:
            async with self:
                started.set()
                while not stop.is_set():  # noqa: ASYNC110 - set by another thread
                    await asyncio.sleep(PAUSE_S)

        thread = threading.Thread(target=lambda: asyncio.run(live()), name="file-server", daemon=True)
        thread.start()
        if not started.wait(THREAD_LIMIT_S):
            raise TimeoutError("The file server did not start.")
        try:
            yield self
        finally:
            stop.set()
            thread.join(THREAD_LIMIT_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            headers["path"] = head.split()[1]
            self.requests.append(headers)
            fault, _, value = (self.faults.pop(0) if self.faults else "").partition(":")
            await self._answer(writer, headers, fault, value)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, writer: asyncio.StreamWriter, headers: dict[str, str], fault: str, value: str) -> None:
        if fault == "status":
            await _send(writer, int(value), "retry-after: 0\r\n", b"")
            return
        if fault == "redirect":
            await _send(writer, 302, f"location: {value}\r\n", b"")
            return
        content, etag = self.files.get(headers["path"], self.content), self.etag
        asked = headers.get("range", "").removeprefix("bytes=")
        current = headers.get("if-range", etag) == etag
        status, start, end, extra = 200, 0, len(content), ""
        if asked and self.ranges and (current or fault == "ignore-if-range"):
            first, _, last = asked.partition("-")
            start, end = int(first), min(end, int(last) + 1 if last else end)
            if start >= len(content):
                await _send(writer, 416, f"content-range: bytes */{len(content)}\r\n", b"")
                return
            status, extra = 206, f"content-range: bytes {start}-{end - 1}/{len(content)}\r\n"
        body = content[start:end]
        extra += f"etag: {etag}\r\n" if etag else ""
        extra += f"content-type: {self.content_type}\r\n"
        length = len(body) + (100 if fault == "promise-more" else 0)
        match fault:
            case "drip":
                await _send(writer, status, extra, b"", length)
                await _drip(writer, body, int(value or 1))
            case "unbounded":
                await _send(writer, status, extra, body, None)
            case "cut":
                await _send(writer, status, extra, body[: int(value)], length)
            case _:
                await _send(writer, status, extra, body[:-1], length)
                while headers["path"] in self.held:  # noqa: ASYNC110 - let go by any thread
                    await asyncio.sleep(PAUSE_S)
                writer.write(body[-1:])
                await writer.drain()


async def _drip(writer: asyncio.StreamWriter, body: bytes, step: int) -> None:
    for start in range(0, len(body), step):
        writer.write(body[start : start + step])
        await writer.drain()
        await asyncio.sleep(PAUSE_S)


async def _send(writer: asyncio.StreamWriter, status: int, extra: str, body: bytes, length: int | None = 0) -> None:
    counted = f"content-length: {length}\r\n" if length is not None else ""
    writer.write(f"HTTP/1.1 {status} X\r\n{extra}{counted}connection: close\r\n\r\n".encode() + body)
    await writer.drain()
