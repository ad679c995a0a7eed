"""Brings what should outlive the run to the history, a few seconds late, and back at the next start."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from worker.aio import timeout, to_the_end
from worker.scheduling.owner_pause import OwnerPause
from worker.status.history import History, KeptPause
from worker.status.hourly_counts import HOUR_S, MOST_HOURS
from worker.status.job_book import JobBook
from worker.status.snapshot import JobRecord

#: Seconds between two writes at least; a crash loses what came since.
SAVE_EVERY_S = 5.0
#: Jobs that wait to be written at most, while the disk takes none.
MOST_WAITING = 2_000
#: Seconds for the history to be read at the start; then the worker goes on without it.
LOAD_LIMIT_S = 5.0


class HistoryKeeper:
    """`restore` once at the start; then `run` is its life."""

    def __init__(self, file: Path, book: JobBook, pause: OwnerPause, *, wall: Callable[[], float] = time.time) -> None:
        self._history = History(file)
        self._book = book
        self._pause = pause
        self._wall = wall
        self._waiting: deque[JobRecord] = deque(maxlen=MOST_WAITING)
        self._changed = asyncio.Event()
        book.on_end(self._note)

    async def restore(self) -> None:
        """Take over what an earlier run left."""
        try:
            async with timeout(LOAD_LIMIT_S):
                kept = await asyncio.to_thread(self._history.load, self._wall())
        except TimeoutError:
            return
        self._book.restore(kept.jobs)
        for hour in kept.hours:
            self._book.hours.merge(hour)
        if kept.pause is not None and (kept.pause.until is None or kept.pause.until > self._wall()):
            self._pause.begin(kept.pause.until)

    def steered(self) -> None:
        """The pause may have begun or ended."""
        self._changed.set()

    async def run(self) -> None:
        """Write what is new until cancelled, and what is left then."""
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(SAVE_EVERY_S)
                await self._save()
        finally:
            if self._changed.is_set():
                await to_the_end(self._save())

    async def _save(self) -> None:
        self._changed.clear()
        jobs, now = list(self._waiting), self._wall()
        self._waiting.clear()
        touched = {job.ended_at // HOUR_S for job in jobs}
        hours = [hour for hour in self._book.hours.last(MOST_HOURS, now) if hour.begins_at // HOUR_S in touched]
        pause = KeptPause(self._pause.until) if self._pause.is_on else None
        if not await asyncio.to_thread(self._history.save, jobs, hours, pause, now):
            # They come first again, as far as there is room; the next job brings the next try.
            self._waiting.extendleft(reversed(jobs[-(MOST_WAITING - len(self._waiting)) :]))

    def _note(self, job: JobRecord) -> None:
        self._waiting.append(job)
        self._changed.set()
