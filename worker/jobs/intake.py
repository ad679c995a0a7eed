"""When to ask the Horde for a job.

One pop at a time, and only while there is room: a job for every engine that is ready, plus the owner's queue. A
job leaves room again as soon as it needs no engine any more, so that delivery never holds up the next one.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from worker.aio import TaskGroup, timeout
from worker.errors import HordeBusy, HordeError, HordeMaintenance, HordeRefused
from worker.horde.client import HordeClient
from worker.horde.wire import PopRequest, PopResponse
from worker.jobs.job import Job
from worker.jobs.runner import JobRunner

#: Pause after a pop that brought nothing.
EMPTY_PAUSE_S = 1.0
#: Pause in maintenance mode: only the owner's own jobs can come.
MAINTENANCE_PAUSE_S = 15.0
#: Pause after a refusal that only the owner can mend: it may be mended on the website at any time.
REFUSED_PAUSE_S = 60.0
#: First and longest pause while the Horde can't be reached.
ERROR_PAUSE_S, ERROR_PAUSE_LIMIT_S = 2.0, 60.0


@dataclass
class Intake:
    """Pops jobs and starts their coroutines."""

    horde: HordeClient
    runner: JobRunner
    #: what to ask for right now; None while nothing can be served
    offer: Callable[[], PopRequest | None]
    #: jobs that may be popped and not yet rendered
    room: Callable[[], int]
    #: a refused pop ends the worker until the owner changes something
    stop_when_refused: bool = True

    def __post_init__(self) -> None:
        self._unrendered = 0
        self._freed = asyncio.Event()
        self._errors = 0
        self.jobs: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Pop until told to stop, then wait for the jobs that are under way. Cancelling faults them.

        Raises HordeRefused when the Horde turns this worker away for good.
        """
        async with TaskGroup() as jobs:
            while not stop.is_set():
                if self._unrendered >= self.room() or (request := self.offer()) is None:
                    await self._wait(stop, EMPTY_PAUSE_S)
                    continue
                job, pause_s = await self._pop(request)
                if job:
                    self._start(jobs, job)
                elif pause_s:
                    await self._pause(stop, pause_s)
            if self._unrendered or self.jobs:
                logger.info("Waiting for {} job(s) to finish.", len(self.jobs))

    async def _pop(self, request: PopRequest) -> tuple[Job | None, float]:
        """A job, or how long to wait before the next question."""
        try:
            answer = await self._ask(request)
        except HordeMaintenance as error:
            logger.bind(action="maintenance").warning("This worker is in maintenance mode: {}", error)
            return None, MAINTENANCE_PAUSE_S
        except HordeBusy as error:
            return None, error.retry_after_s
        except HordeRefused as error:
            if self.stop_when_refused:
                raise
            logger.error("The Horde refuses this worker: {}", error)
            return None, REFUSED_PAUSE_S
        except HordeError as error:
            pause_s = min(ERROR_PAUSE_S * 2**self._errors, ERROR_PAUSE_LIMIT_S)
            self._errors += 1
            logger.bind(action="pop_failed").warning("No job, next try in {:.0f} s: {}", pause_s, error)
            return None, pause_s
        self._errors = 0
        for message in answer.messages:
            logger.bind(action="message").info("Message from the Horde: {}", message.message)
        if not answer.job_ids:
            return None, EMPTY_PAUSE_S
        return Job(answer), 0

    async def _ask(self, request: PopRequest) -> PopResponse:
        """One pop, seen through to its end: who breaks it off loses the job that it brings."""
        asking = asyncio.ensure_future(self.horde.pop(request))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            with contextlib.suppress(HordeError):
                answer = await asking
                if answer.job_ids:
                    await self.runner.give_back(Job(answer), "The worker is shutting down.")
            raise

    def _start(self, jobs: TaskGroup, job: Job) -> None:
        self._unrendered += 1
        task = jobs.create_task(self.runner.run(job, on_rendered=self._free), name=f"job-{job.name}")
        self.jobs.add(task)
        task.add_done_callback(self.jobs.discard)

    def _free(self) -> None:
        self._unrendered -= 1
        self._freed.set()

    async def _wait(self, stop: asyncio.Event, limit_s: float) -> None:
        """Until a job is rendered, or it is time to look again."""
        self._freed.clear()
        await _first_of(self._freed, stop, limit_s=limit_s)

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        await _first_of(stop, limit_s=seconds)


async def _first_of(*events: asyncio.Event, limit_s: float) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        async with timeout(limit_s):
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        pass
    finally:
        for wait in waits:
            wait.cancel()
