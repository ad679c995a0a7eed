"""Model files and records in temporary folders."""

import asyncio
import contextlib
import json
import struct

import pytest

from worker.models.records import Category, ModelFile, ModelRecord, Purpose
from worker.workflows.families import Family


def safetensors(payload=b"weights!"):
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}}).encode()
    return struct.pack("<Q", len(header)) + header + payload


@pytest.fixture
def put():
    """Write a file with its folders; a whole safetensors file unless bytes are given."""

    def write(path, content=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(safetensors() if content is None else content)
        return path

    return write


@pytest.fixture
def checkpoint():
    def make(name="m.safetensors", sha256=None, **more):
        file = ModelFile(Purpose.CHECKPOINT, name, "compvis", sha256=sha256, **more)
        return ModelRecord("M", Category.IMAGE, (file,), "stable_diffusion_xl", Family.STABLE_DIFFUSION_XL)

    return make


class FaultyServer:
    """A file server on the loopback address. `faults` are used up one per request, in order."""

    def __init__(self, content):
        self.content = content
        #: path → other content
        self.files = {}
        #: path → what must happen before the end of it is sent
        self.gates = {}
        self.etag = '"1"'
        self.ranges = True
        self.content_type = "application/octet-stream"
        self.faults = []
        self.requests = []
        self.url = ""
        self._handlers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.url = f"{self.base}/m.bin"
        return self

    async def __aexit__(self, *exc):
        for gate in self.gates.values():
            gate.set()
        self._server.close()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        handler = asyncio.current_task()
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

    async def _answer(self, writer, headers, fault, value):
        content = self.files.get(headers["path"], self.content)
        gate = self.gates.get(headers["path"])
        start, end = 0, len(content)
        asked = headers.get("range", "").removeprefix("bytes=")
        current = headers.get("if-range", self.etag) == self.etag
        status, extra = 200, ""
        if fault == "status":
            await self._send(writer, int(value), "retry-after: 0\r\n", b"")
            return
        if fault == "redirect":
            await self._send(writer, 302, f"location: {value}\r\n", b"")
            return
        if asked and self.ranges and (current or fault == "ignore-if-range"):
            first, _, last = asked.partition("-")
            start, end = int(first), min(end, int(last) + 1 if last else end)
            if start >= len(content):
                await self._send(writer, 416, f"content-range: bytes */{len(content)}\r\n", b"")
                return
            status, extra = 206, f"content-range: bytes {start}-{end - 1}/{len(content)}\r\n"
        body = content[start:end]
        extra += f"etag: {self.etag}\r\n" if self.etag else ""
        extra += f"content-type: {self.content_type}\r\n"
        length = len(body) + (100 if fault == "promise-more" else 0)
        if fault in {"cut", "promise-more"}:
            body = body[: int(value)] if value else body
        if fault == "drip":
            await self._send(writer, status, extra, b"", length)
            step = int(value or 1)
            for start in range(0, len(body), step):
                writer.write(body[start : start + step])
                await writer.drain()
                await asyncio.sleep(0.02)
            return
        if gate:
            await self._send(writer, status, extra, body[:-1], length)
            await gate.wait()
            writer.write(body[-1:])
            await writer.drain()
            return
        if fault == "unbounded":
            await self._send(writer, status, extra, body, None)
            return
        await self._send(writer, status, extra, body, length)

    async def _send(self, writer, status, extra, body, length=0):
        counted = f"content-length: {length}\r\n" if length is not None else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{extra}{counted}connection: close\r\n\r\n".encode() + body)
        await writer.drain()


@pytest.fixture
def serve():
    return FaultyServer
