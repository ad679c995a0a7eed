"""Pops jobs and starts their coroutines, as `Admission` says.

Several pops may be under way, but only while each of them brings a job. A pop that was sent is seen through to its
answer, for the job that it may bring.
"""

import asyncio
import contextlib
from dataclasses import KW_ONLY, dataclass, field
from typing import Protocol

from loguru import logger

from worker.aio import TaskGroup, first_of
from worker.errors import HordeError, HordeRefused, WorkerError
from worker.horde.agent import credited_share
from worker.horde.messages import PopRequest, PopResponse
from worker.jobs.in_flight import SHUTTING_DOWN, JobsInFlight
from worker.jobs.job import Job, JobEvent, JobEvents, PopEvent
from worker.jobs.runner import JobRunner
from worker.scheduling.estimates.speed import RunningAverage
from worker.scheduling.pop_admission import Admitted, Wait
from worker.scheduling.pop_backoff import PopBackoff
from worker.units import counted

#: Seconds until the next look after a defect.
DEFECT_PAUSE_S = 60.0


class AnswersPops(Protocol):
    """The part of the Horde's client that asks for jobs."""

    async def pop(self, request: PopRequest) -> PopResponse:
        """Ask once. Raises HordeError."""
        ...


class DecidesPops(Protocol):
    """`worker.scheduling.pop_admission.Admission`, as far as it is asked."""

    def decide(self, *, asking: int, fetch_s: float) -> Admitted | Wait:
        """The next pop, or why there is none, with `asking` pops under way that take `fetch_s` seconds each."""
        ...


@dataclass(eq=False)
class Intake:
    """`run` is its life."""

    horde: AnswersPops
    runner: JobRunner
    admission: DecidesPops
    _: KW_ONLY
    pop_backoff: PopBackoff
    in_flight: JobsInFlight
    events: JobEvents
    #: why it ends by itself
    _given_up: WorkerError | None = field(default=None, init=False)
    _asking: int = field(default=0, init=False)
    _unbegun: list[Job] = field(default_factory=list, init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _fetching: RunningAverage = field(default_factory=RunningAverage, init=False)

    def __post_init__(self) -> None:
        self.events.subscribe(self._note)

    def look_again(self) -> None:
        """Decide anew at once, since what held it back may be over."""
        self._changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Pop until told to stop, then wait for the jobs that are under way. Cancelling faults them.

        Raises HordeRefused when the Horde turns this worker away for good, and what the admission raises, either once
        the jobs under way are done.
        """
        try:
            async with TaskGroup() as tasks:
                while not stop.is_set() and not self._given_up:
                    try:
                        decision = self._decide()
                    except WorkerError as error:
                        self._given_up = error
                        break
                    if isinstance(decision, Admitted):
                        self._asking += 1
                        tasks.create_task(self._pop(decision, tasks), name="pop")
                        continue
                    self._changed.clear()
                    await first_of(self._changed, stop, within_s=decision.seconds)
                if self.in_flight.jobs:
                    reason = f" {self._given_up}" if self._given_up else ""
                    logger.info("Waiting for {} to finish.{}", counted(len(self.in_flight.jobs), "job"), reason)
        finally:
            # A task that is cancelled before its first step does nothing at all, not even give its job back.
            for job in self._unbegun:
                await self.runner.give_back(job, SHUTTING_DOWN)
        if self._given_up:
            raise self._given_up

    def _decide(self) -> Admitted | Wait:
        try:
            return self.admission.decide(asking=self._asking, fetch_s=self._fetching.value or 0.0)
        except WorkerError:
            raise
        except Exception:  # jobs under way must be answered, and the next look may go well
            logger.exception("A defect in the worker: whether to pop was not decided")
            return Wait(DEFECT_PAUSE_S, ())

    async def _pop(self, admitted: Admitted, tasks: TaskGroup) -> None:
        """Ask once; start the job that comes."""
        loop = asyncio.get_running_loop()
        began = loop.time()

        def tell(answer: PopResponse | None, error: HordeError | None = None) -> None:
            took_s, for_idle = loop.time() - began, admitted.for_idle_engine
            self.events.pops.publish(PopEvent(admitted.request, answer, error, took_s, for_idle))

        try:
            answer = await self._ask(admitted.request)
        except HordeError as error:
            tell(None, error)
            if isinstance(error, HordeRefused) and not self.pop_backoff.is_passing(error, now=loop.time()):
                self._given_up = self._given_up or error
            else:
                self.pop_backoff.failed(error, now=loop.time())
        else:
            if self.in_flight.has(answer.job_ids):
                # Each id has one answer: a second rendering would be thrown away.
                logger.bind(action="job_again").warning("The Horde sent job {} once more.", answer.job_ids[0][:8])
                answer = PopResponse()
            tell(answer)
            self.pop_backoff.answered(answer, now=loop.time(), for_idle_engine=admitted.for_idle_engine)
            if answer.job_ids:
                self._fetching.add(loop.time() - began)
                # The Horde's clock runs since it chose the job; how long its answer took is not known exactly.
                share = credited_share(admitted.request.bridge_agent)
                self._start(tasks, Job(answer, popped_at=began, credited=share))
        finally:
            self._asking -= 1
            self._changed.set()

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
        task = tasks.create_task(self.runner.run(job), name=f"job-{job.name}")
        self.in_flight.add(job, task)
        task.add_done_callback(lambda _: self._note_end(job))

    def _note_end(self, job: Job) -> None:
        if job.ended_at is None:
            self._unbegun.append(job)

    def _note(self, event: JobEvent) -> None:
        if not event.job.needs_engine:
            self._changed.set()
