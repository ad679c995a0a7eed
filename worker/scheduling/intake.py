"""When to ask the Horde for a job.

Jobs are popped just in time: one for every engine that is ready, and one more for the owner's queue when an engine
is about to run dry. A job leaves room again as soon as it needs no engine any more, so that delivery never holds up
the next one; those that wait long for their files make room as well, for one more per engine. Several pops may be
under way, but only while each of them brings a job.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from loguru import logger

from worker.aio import TaskGroup, timeout
from worker.errors import HordeBusy, HordeError, HordeMaintenance, HordeRefused, WorkerError
from worker.horde.client import HordeClient
from worker.horde.messages import PopRequest, PopResponse
from worker.jobs.job import Job, Stage
from worker.jobs.runner import JobRunner
from worker.scheduling.estimates.speed import RunningAverage
from worker.scheduling.horde_status import Standing
from worker.scheduling.planner import Capacity

#: Pause after a pop that brought nothing.
EMPTY_PAUSE_S = 1.0
#: Pause in maintenance mode: only the owner's own jobs can come.
MAINTENANCE_PAUSE_S = 15.0
#: First and longest pause while the Horde can't be reached.
ERROR_PAUSE_S, ERROR_PAUSE_LIMIT_S = 2.0, 60.0
#: It goes on for days; no number may grow with it.
MOST_DOUBLINGS = 10
#: Pops under way at most. One alone brings 10 jobs a second at 100 ms each; many engines need more.
MOST_POPS = 16
#: A job that has waited so long for its files makes room for one that can begin at once.
FILES_PATIENCE_S = 2.0
#: How often to look again for a reason that nobody announces (a pause ends, an engine is back).
LOOK_AGAIN_S = 0.5

SHUTTING_DOWN = "The worker is shutting down."


@dataclass
class Intake:
    """Pops jobs and starts their coroutines."""

    horde: HordeClient
    runner: JobRunner
    #: what to ask for right now, given how many pops are under way; None while nothing can be served
    offer: Callable[[int], PopRequest | None]
    room: Callable[[], Capacity]
    #: seconds not to ask for, with the reason; 0 when all is well. Raises WorkerError when it is of no use any more
    brake: Callable[[], tuple[float, str]] = lambda: (0.0, "")
    jobs: set[asyncio.Task[None]] = field(default_factory=set)
    #: why nothing is popped at the moment, if so
    paused: str = ""
    standing: Standing = field(default_factory=Standing)

    def __post_init__(self) -> None:
        #: jobs that need an engine, now or later, with when they came
        self._unrendered: dict[Job, float] = {}
        #: why it ends by itself
        self._given_up: WorkerError | None = None
        self._asking = 0
        #: pops that may be under way: one, until pops bring jobs
        self._width = 1
        self._errors = 0
        self._not_before = 0.0
        self._unbegun: list[Job] = []
        self._changed = asyncio.Event()
        self._fetching = RunningAverage()

    async def run(self, stop: asyncio.Event) -> None:
        """Pop until told to stop, then wait for the jobs that are under way. Cancelling faults them.

        Raises HordeRefused when the Horde turns this worker away for good, and what the brake raises, either once the
        jobs under way are done.
        """
        try:
            async with TaskGroup() as tasks:
                while not stop.is_set() and not self._given_up:
                    try:
                        request = self._next_pop()
                    except WorkerError as error:
                        self._given_up = error
                        break
                    if request is not None:
                        self._asking += 1
                        tasks.create_task(self._pop(request, tasks), name="pop")
                        continue
                    self._changed.clear()
                    await _first_of(self._changed, stop, limit_s=self._patience_s())
                if self.jobs:
                    reason = f" {self._given_up}" if self._given_up else ""
                    logger.info("Waiting for {} job(s) to finish.{}", len(self.jobs), reason)
        finally:
            # A task that is cancelled before its first step does nothing at all, not even give its job back.
            for job in self._unbegun:
                await self.runner.give_back(job, SHUTTING_DOWN)
        if self._given_up:
            raise self._given_up

    def _next_pop(self) -> PopRequest | None:
        """The pop that makes sense now, if any."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before or self._asking >= self._width:
            return None
        wait_s, reason = self.brake()
        if reason != self.paused:
            self.paused = reason
            if reason:
                logger.bind(action="paused").warning("No new jobs for {:.0f} s: {}.", wait_s, reason)
            else:
                logger.bind(action="resumed").info("Taking jobs again.")
        room = self.room()
        held = len(self._unrendered) + self._asking - min(self._waiting_for_files(now), room.engines)
        if reason or not room.engines or held >= room.engines + room.queue:
            return None
        if held >= room.engines and room.idle_in_s > max(room.lead_s, 3 * (self._fetching.value or 0.0)):
            return None
        return self.offer(self._asking)

    def _waiting_for_files(self, now: float) -> int:
        """Jobs that no engine can begin with, and not for want of a moment."""
        return sum(
            job.stage is Stage.FETCHING and now - since >= FILES_PATIENCE_S for job, since in self._unrendered.items()
        )

    def _patience_s(self) -> float:
        now = asyncio.get_running_loop().time()
        return max(self._not_before - now, 0.01) if self._not_before > now else LOOK_AGAIN_S

    async def _pop(self, request: PopRequest, tasks: TaskGroup) -> None:
        """Ask once; start the job that comes, or put off the next question."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        pause_s = 0.0
        try:
            answer = await self._ask(request)
        except HordeError as error:
            if isinstance(error, HordeRefused) and not self.standing.is_passing(error, now=loop.time()):
                self._given_up = self._given_up or error
            else:
                pause_s = self._pause_after(error)
                self.standing.failed(error, pause_s=pause_s, now=loop.time())
        else:
            self._errors = 0
            self.standing.answered(answer.messages, now=loop.time())
            if answer.job_ids:
                self._fetching.add(loop.time() - began)
                # The Horde's clock runs since it chose the job; how long its answer took is not known exactly.
                self._start(tasks, Job(answer, popped_at=began))
            else:
                pause_s = EMPTY_PAUSE_S
        finally:
            self._asking -= 1
            self._changed.set()
        self._width = 1 if pause_s else min(2 * self._width, MOST_POPS)
        if pause_s:
            self._not_before = loop.time() + pause_s

    def _pause_after(self, error: HordeError) -> float:
        """Seconds; longer and longer while the Horde can't be reached."""
        if isinstance(error, HordeMaintenance):
            return MAINTENANCE_PAUSE_S
        if isinstance(error, HordeBusy):
            return error.retry_after_s
        pause_s = min(ERROR_PAUSE_S * 2.0 ** min(self._errors, MOST_DOUBLINGS), ERROR_PAUSE_LIMIT_S)
        self._errors += 1
        return pause_s

    async def _ask(self, request: PopRequest) -> PopResponse:
        """One pop, seen through to its end: who breaks it off loses the job that it brings."""
        asking = asyncio.ensure_future(self.horde.pop(request))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            with contextlib.suppress(HordeError):
                answer = await asking
                if answer.job_ids:
                    await self.runner.give_back(Job(answer), SHUTTING_DOWN)
            raise

    def _start(self, tasks: TaskGroup, job: Job) -> None:
        self._unrendered[job] = asyncio.get_running_loop().time()
        task = tasks.create_task(self.runner.run(job, on_rendered=partial(self._free, job)), name=f"job-{job.name}")
        self.jobs.add(task)
        task.add_done_callback(lambda ended: self._note_end(ended, job))

    def _note_end(self, task: asyncio.Task[None], job: Job) -> None:
        self.jobs.discard(task)
        if job.ended_at is None:
            self._unbegun.append(job)

    def _free(self, job: Job) -> None:
        del self._unrendered[job]
        self._changed.set()


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
