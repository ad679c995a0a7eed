"""Hands snapshots to whoever looks, when something has changed and not more often than they can use.

Nothing is made while nobody looks, one snapshot serves all who look, and a slow reader misses snapshots in place of
piling them up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from worker.aio import first_of
from worker.status.snapshot import Snapshot

#: Seconds between two snapshots at least, and at most while only progress moves.
LEAST_S, MOST_S = 0.5, 1.0


@dataclass(eq=False)
class Watchers:
    """Readers that wait for changes."""

    make: Callable[[], Snapshot]
    least_s: float = LEAST_S
    most_s: float = MOST_S
    _readers: set[asyncio.Queue[Snapshot]] = field(default_factory=set, init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def changed(self) -> None:
        """Something is different: readers should see it soon."""
        if self._readers:
            self._changed.set()

    async def watch(self) -> AsyncIterator[Snapshot]:
        """The present snapshot, then one after each change, until the reader stops."""
        queue: asyncio.Queue[Snapshot] = asyncio.Queue(maxsize=1)
        self._readers.add(queue)
        if self._task is None:
            self._task = asyncio.ensure_future(self._serve())
        try:
            yield self.make()
            while True:
                yield await queue.get()
        finally:
            self._readers.discard(queue)
            if not self._readers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _serve(self) -> None:
        while True:
            self._changed.clear()
            await first_of(self._changed, within_s=self.most_s - self.least_s)
            snapshot = self.make()
            for queue in self._readers:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(snapshot)
            await asyncio.sleep(self.least_s)
