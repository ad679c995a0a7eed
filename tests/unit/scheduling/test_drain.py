"""Jobs under way when the worker is told to stop: finished, or given back, and always counted."""

import asyncio

import pytest

from worker.errors import HordeRefused
from worker.horde.messages import PopResponse
from worker.jobs.in_flight import SHUTTING_DOWN, JobsInFlight
from worker.jobs.job import Job, JobEvents, Stage
from worker.scheduling.drain import until_drained


class Intake:
    """Runs the jobs it is given, as the real one does once it is told to stop."""

    def __init__(self) -> None:
        self.in_flight = JobsInFlight()
        self.events = JobEvents()
        self.work = asyncio.Event()
        self.jobs = []
        self.answered = []
        self.error = None

    def add(self, id_, *, begun=False):
        job = Job(PopResponse(ids=[id_], payload={}))
        job.started_at = 1.0 if begun else None
        self.jobs.append(job)

    async def _job(self, job):
        self.events.enter(job, Stage.POPPED)
        self.events.enter(job, Stage.RENDERING)
        try:
            await self.work.wait()
        except asyncio.CancelledError:
            job.fault = job.dropped or job.fault or "cancelled"
            raise
        finally:
            self.answered.append((job.id, job.fault))
            job.ended_at = 1.0
            self.events.enter(job, Stage.FAULTED if job.fault else Stage.DONE)

    async def run(self, stop):
        tasks = [asyncio.ensure_future(self._job(job)) for job in self.jobs]
        for job, task in zip(self.jobs, tasks, strict=True):
            self.in_flight.add(job, task)
        try:
            await stop.wait()
            if self.error:
                raise self.error
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def intake():
    intake = Intake()
    intake.add("running", begun=True)
    intake.add("waiting")
    return intake


def drain(intake, stop, hasten, **limits):
    return asyncio.ensure_future(until_drained(intake, intake.in_flight, stop=stop, hasten=hasten, **limits))


async def started(intake):
    while len(intake.in_flight.jobs) < len(intake.jobs):
        await asyncio.sleep(0)


def stopped():
    event = asyncio.Event()
    event.set()
    return event


async def test_jobs_under_way_are_finished(intake):
    draining = drain(intake, stopped(), asyncio.Event())
    await started(intake)
    intake.work.set()
    assert await draining == 0
    assert intake.answered == [("running", ""), ("waiting", "")]


async def test_what_takes_longer_than_the_limit_is_given_back(intake):
    assert await drain(intake, stopped(), asyncio.Event(), limit_s=0.05) == 2
    assert sorted(intake.answered) == [("running", "cancelled"), ("waiting", "cancelled")]


async def test_in_haste_waiting_jobs_go_back_and_running_ones_are_finished(intake):
    hasten = asyncio.Event()
    draining = drain(intake, stopped(), hasten)
    await started(intake)
    hasten.set()
    while not intake.answered:
        await asyncio.sleep(0)
    assert intake.answered == [("waiting", SHUTTING_DOWN)]
    intake.work.set()
    assert await draining == 1
    assert intake.answered[1:] == [("running", "")]


async def test_in_haste_a_job_that_is_being_reported_as_faulted_is_not_given_back_once_more(intake):
    intake.jobs[1].fault = "no such model"
    assert await drain(intake, stopped(), stopped(), haste_limit_s=0.05) == 1
    assert sorted(intake.answered) == [("running", "cancelled"), ("waiting", "no such model")]


async def test_in_haste_running_jobs_get_a_moment_only(intake):
    assert await drain(intake, stopped(), stopped(), haste_limit_s=0.05) == 2
    assert sorted(intake.answered) == [("running", "cancelled"), ("waiting", SHUTTING_DOWN)]


async def test_cancelling_gives_everything_back_before_it_is_over(intake):
    draining = drain(intake, asyncio.Event(), asyncio.Event())
    await started(intake)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert sorted(intake.answered) == [("running", "cancelled"), ("waiting", "cancelled")]


async def test_why_the_intake_ended_is_told(intake):
    intake.error = HordeRefused("no such key")
    stop = asyncio.Event()
    draining = drain(intake, stop, asyncio.Event())
    await started(intake)
    stop.set()
    with pytest.raises(HordeRefused, match="no such key"):
        await draining
    assert len(intake.answered) == 2
