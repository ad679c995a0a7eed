"""Browsers that look at a worker's dashboard throughout a soak, whatever befalls the worker."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from worker.aio import TaskGroup, timeout, ungrouped
from worker.dashboard.events import MOST_OF_ONE
from worker.dashboard.whereabouts import Whereabouts, running_workers
from worker.demo.browsers import Seen, hold_events, load_pages, scrape, signed_in

#: Between two rounds of one browser's pages, before it comes back, and between two looks whether the page is there.
EVERY_S, BACK_AFTER_S, LOOK_EVERY_S = 1.0, 1.0, 0.2
#: The first stays with the page; the others leave it in the midst of everything after so long, and come back.
VISIT_S = 2.0
#: So many at most: who comes back at once is still counted as there where the worker has not seen him go.
MOST_BROWSERS = MOST_OF_ONE // 2


@dataclass
class Browsers:
    """So many of them. What they were refused while the worker was to serve is a failure."""

    #: in which the workers' folders are
    base: Path
    number: int
    seen: Seen = field(default_factory=Seen)
    #: answers that were not meant
    failures: Counter[str] = field(default_factory=Counter)
    _worker_ends: bool = False

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """They look while the block lasts: before the worker is there, while it works, ends and has ended."""
        self._worker_ends = False
        looking = [asyncio.ensure_future(self._look(VISIT_S if number else None)) for number in range(self.number)]
        try:
            yield
        finally:
            for each in looking:
                each.cancel()
            for end in await asyncio.gather(*looking, return_exceptions=True):
                if isinstance(end, Exception):
                    self.failures[f"a browser of the soak: {end!r}"] += 1

    @property
    def have_looked(self) -> bool:
        """Whether answers and events have come for each of them."""
        return min(self.seen.answers, self.seen.events) >= self.number

    def worker_ends(self) -> None:
        """From now on the page may be gone at any moment."""
        self._worker_ends = True

    async def _look(self, visit_s: float | None) -> None:
        while True:
            if here := running_workers(self.base):
                try:
                    await self._visit(here[0], visit_s)
                except httpx.HTTPError as error:
                    if not self._worker_ends:
                        what = str(error).partition("\n")[0]
                        self.failures[f"{type(error).__name__}: {what}"] += 1
                await asyncio.sleep(BACK_AFTER_S)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _visit(self, here: Whereabouts, seconds: float | None) -> None:
        """Raises httpx.HTTPError for what is no answer, or is a refusal."""
        with suppress(TimeoutError, asyncio.TimeoutError), ungrouped():
            async with timeout(seconds), signed_in(here.url, here.token) as http, TaskGroup() as group:
                group.create_task(self._events(http))
                group.create_task(load_pages(http, self.seen, every_s=EVERY_S))
                group.create_task(scrape(here.url, here.token, self.seen, every_s=EVERY_S))

    async def _events(self, http: httpx.AsyncClient) -> None:
        await hold_events(http, self.seen)
        raise httpx.RemoteProtocolError("the events have ended")
