"""The jobs under way, each with its coroutine: for whoever counts or shows them, or must end one before its time."""

import asyncio
from collections.abc import Iterable

from worker.jobs.job import Job

#: Why jobs are given back at the end of a run.
SHUTTING_DOWN = "The worker is shutting down."


class JobsInFlight:
    """The one list of them. A job is in it from its pop until its coroutine ends."""

    def __init__(self) -> None:
        self._tasks: dict[Job, asyncio.Task[None]] = {}

    @property
    def jobs(self) -> tuple[Job, ...]:
        """In the order in which they were popped."""
        return tuple(job for job in self._tasks if job.ended_at is None)

    @property
    def needing_engine(self) -> tuple[Job, ...]:
        """Those that an engine has yet to do, or does now."""
        return tuple(job for job in self._tasks if job.needs_engine)

    def has(self, ids: Iterable[str]) -> bool:
        """Whether a job under way is to answer any of these ids."""
        return not {id_ for job in self._tasks for id_ in job.pop.job_ids}.isdisjoint(ids)

    def add(self, job: Job, task: "asyncio.Task[None]") -> None:
        """A job begins, carried by this task."""
        self._tasks[job] = task
        task.add_done_callback(lambda _: self._tasks.pop(job, None))

    def drop(self, job: Job, reason: str) -> None:
        """End a job now: what it still owes is reported as faulted."""
        task = self._tasks.get(job)
        if task is not None and not job.is_lost:
            job.dropped = reason
            task.cancel()
