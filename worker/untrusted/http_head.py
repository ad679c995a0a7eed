"""Heads of HTTP responses, bounded before they are parsed.

A head of ten thousand short headers, or an endless row of `100 Continue`, keeps the parser of HTTP busy without a
pause: a quarter of a second for each 64 kB. `bounded_head` gives a hook for an httpx client that looks at the bytes of
each head first, in small reads, and breaks the connection off when they are too many.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import httpx

from worker.errors import InputRefused

#: Bytes of one head. Those of GitHub and Hugging Face, the longest that were seen, have 6 kB.
MOST_HEAD_BYTES: Final = 16 * 1024
#: Heads before the one that counts: `100 Continue`, `103 Early Hints`.
MOST_INTERIM_HEADS: Final = 8
#: Bytes of one read while a head is expected: the parser takes a few milliseconds for them.
READ_BYTES: Final = 2048

#: What ends a head; h11 takes bare line feeds too.
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_INTERIM: Final = re.compile(rb"\s*HTTP/1\.\d 1")

Trace = Callable[[str, Mapping[str, Any]], Awaitable[None]]


async def bounded_head(request: httpx.Request) -> None:
    """A hook for a client's requests: the heads of their responses are bounded. Put it after other hooks."""
    before: Trace | None = request.extensions.get("trace")

    async def see(event: str, info: Mapping[str, Any]) -> None:
        if before is not None:
            await before(event, info)
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            _HeadReader(info["return_value"])

    request.extensions = {**request.extensions, "trace": see}


class _HeadReader:
    """Stands between a connection's stream and its reader; from each write on a head is expected."""

    def __init__(self, stream: Any) -> None:
        self._read, self._write = stream.read, stream.write
        self._head: bytearray | None = bytearray()
        self._interim = 0
        stream.read, stream.write = self.read, self.write

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Like the stream's own."""
        self._head, self._interim = bytearray(), 0
        await self._write(buffer, timeout=timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Like the stream's own. Raises InputRefused."""
        if self._head is None:
            data: bytes = await self._read(max_bytes, timeout=timeout)
            return data
        data = await self._read(min(max_bytes, READ_BYTES), timeout=timeout)
        self._head += data
        while (end := _BLANK_LINE.search(self._head)) is not None:
            if not _INTERIM.match(self._head):
                self._head = None
                return data
            self._interim += 1
            if self._interim > MOST_INTERIM_HEADS:
                raise InputRefused(f"The answer begins more than {MOST_INTERIM_HEADS} times without coming.")
            del self._head[: end.end()]
        if len(self._head) > MOST_HEAD_BYTES:
            raise InputRefused(f"The answer's headers have more than {MOST_HEAD_BYTES} bytes.")
        return data
