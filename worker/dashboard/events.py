"""What changes on the page, pushed to the browsers that show it (server-sent events).

A fragment of the page is rendered when what it shows has changed, once for all who look; each reader is sent those that
it has not yet seen. Nothing is kept for a reader but the number of the last fragments it was sent, so a slow one costs
nothing, and misses what was replaced meanwhile.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import KW_ONLY, dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from worker.aio import meanwhile, timeout
from worker.status.board import StatusBoard
from worker.status.snapshot import Snapshot

#: Readers in all, and from one address: each tab in view has one.
MOST_READERS, MOST_OF_ONE = 24, 12
#: Seconds between two events to one reader, and after which one is sent although nothing has changed.
LEAST_S, BEAT_S = 1.0, 20.0
#: Seconds that a reader may take to accept an event.
SEND_S = 20.0
#: Told to the browser: wait so long before it connects again, in milliseconds.
RETRY_MS = 5000

#: What a fragment shows, made from a snapshot, and how it is rendered.
Fragment = tuple[Callable[[Snapshot], Any], Callable[[Any], str]]


class LiveFragments:
    """The fragments of the page as they are now."""

    def __init__(self, fragments: Mapping[str, Fragment]) -> None:
        self._fragments = fragments
        self._shown: dict[str, Any] = {}
        self._html: dict[str, str] = {}
        #: of each fragment: the number of the change that rendered it
        self._changed_at: dict[str, int] = {}
        self._number = 0
        self._snapshot: Snapshot | None = None
        self._cached: tuple[int, int, bytes] = (0, 0, b"")

    def html(self, snapshot: Snapshot) -> Mapping[str, str]:
        """Every fragment for this snapshot."""
        self._update(snapshot)
        return self._html

    def since(self, number: int, snapshot: Snapshot) -> tuple[int, bytes]:
        """The number of the present state, and an event with what has changed after `number`; empty for nothing."""
        self._update(snapshot)
        if number == self._number:
            return number, b""
        if self._cached[:2] != (number, self._number):
            changed = {name: self._html[name] for name, at in self._changed_at.items() if at > number}
            data = json.dumps(changed, ensure_ascii=True, separators=(",", ":"))
            self._cached = number, self._number, f"data: {data}\n\n".encode()
        return self._number, self._cached[2]

    def _update(self, snapshot: Snapshot) -> None:
        if snapshot is self._snapshot:
            return
        self._snapshot = snapshot
        changed = []
        for name, (look, render) in self._fragments.items():
            shown = look(snapshot)
            if name not in self._html or shown != self._shown[name]:
                self._shown[name] = shown
                html = render(shown)
                if html != self._html.get(name):
                    self._html[name] = html
                    changed.append(name)
        if changed:
            self._number += 1
            self._changed_at |= dict.fromkeys(changed, self._number)


class Readers:
    def __init__(self) -> None:
        self._of: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Whether one more reader from this address is taken."""
        if self._of.total() >= MOST_READERS or self._of[address] >= MOST_OF_ONE:
            return False
        self._of[address] += 1
        return True

    def leave(self, address: str) -> None:
        self._of[address] -= 1
        self._of += Counter()  # without those of whom none is left


@dataclass(eq=False)
class EventStream:
    """A response that lasts: one reader's events, until it goes, its session ends, or it is too slow."""

    status: StatusBoard
    fragments: LiveFragments
    #: which have let it in
    readers: Readers
    _: KW_ONLY
    address: str
    may_go_on: Callable[[], bool]

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the reader is gone."""
        # Both end here, whatever they raise: a reader that went away is no failure.
        async with meanwhile(self._push(send), _gone(receive)) as (pushing, gone):
            try:
                await asyncio.wait((pushing, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.readers.leave(self.address)

    async def _push(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"x-accel-buffering", b"no"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send(send, f"retry: {RETRY_MS}\n\n".encode())
        number, beat_at = 0, asyncio.get_running_loop().time()
        async for snapshot in _paced(self.status):
            if not self.may_go_on():
                break
            number, event = self.fragments.since(number, snapshot)
            now = asyncio.get_running_loop().time()
            if not event and now - beat_at < BEAT_S:
                continue
            beat_at = now
            await _send(send, event or b": here\n\n")
        with suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _paced(status: StatusBoard) -> AsyncIterator[Snapshot]:
    async with aclosing(status.watch()) as snapshots:  # type: ignore[type-var]
        async for snapshot in snapshots:
            yield snapshot
            await asyncio.sleep(LEAST_S)


async def _send(send: Send, data: bytes) -> None:
    """Raises TimeoutError for a reader that takes nothing."""
    async with timeout(SEND_S):
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
