"""The jobs under way, each with its coroutine: for whoever shows them, or must end one before its time."""

import asyncio

from worker.jobs.job import Job, JobEvent, Stage


class Roster:
    """Subscribe `note` to the job events."""

    def __init__(self) -> None:
        self._tasks: dict[Job, asyncio.Task[object] | None] = {}

    @property
    def jobs(self) -> tuple[Job, ...]:
        """In the order in which they were popped."""
        return tuple(self._tasks)

    def note(self, event: JobEvent) -> None:
        match event.stage:
            case Stage.POPPED:
                # A job tells of its stages in its own coroutine.
                self._tasks[event.job] = asyncio.current_task()
            case Stage.DONE | Stage.FAULTED:
                self._tasks.pop(event.job, None)

    def drop(self, job: Job, reason: str) -> None:
        """End a job now: what it still owes is reported as faulted."""
        task = self._tasks.get(job)
        if task is not None and not job.fault:
            job.fault = reason
            task.cancel()
