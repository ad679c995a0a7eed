"""After the machine's sleep late jobs are given up, and engines that don't answer are started afresh."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from worker.errors import EngineDied
from worker.horde.messages import PopResponse
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.job import Job, JobEvents, Stage
from worker.owner.suspend import ClockWatch


class Slot:
    """An engine that answers, or does not."""

    def __init__(self, error=None) -> None:
        self.error = error
        self.asked = 0
        self.restarted = []
        self.client = self

    async def system_stats(self):
        self.asked += 1
        if self.error:
            raise self.error
        return {}

    def restart(self, reason):
        self.restarted.append(reason)


class Rig:
    def __init__(self) -> None:
        self.slept_s = 0.0
        self.events = JobEvents()
        self.in_flight = JobsInFlight()
        self.slots = [Slot()]
        self.ended = {}
        self.tasks = []
        self.running: Any = SimpleNamespace(in_flight=self.in_flight, pool=SimpleNamespace(ready_slots=self.slots))
        self.ticks = 0

    def clock(self):
        self.ticks += 1
        return asyncio.get_running_loop().time() + self.slept_s

    def job(self, id_, ttl):
        job = Job(PopResponse(ids=[id_], payload={}, ttl=ttl))
        self.tasks.append(asyncio.ensure_future(self._carry(job)))
        self.in_flight.add(job, self.tasks[-1])
        return job

    async def _carry(self, job):
        self.events.enter(job, Stage.POPPED)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended[job.id] = job.dropped
            self.events.enter(job, Stage.FAULTED)

    async def more_ticks(self, count=3):
        until = self.ticks + count
        while self.ticks < until:
            await asyncio.sleep(0.005)


@pytest.fixture
async def rig():
    rig = Rig()
    watching = asyncio.ensure_future(ClockWatch(rig.clock, tick_s=0.01)(rig.running))
    await rig.more_ticks()
    yield rig
    for task in (watching, *rig.tasks):
        task.cancel()
    await asyncio.gather(watching, *rig.tasks, return_exceptions=True)


async def test_while_nobody_sleeps_nothing_happens(rig):
    rig.job("a", ttl=150)
    await rig.more_ticks()
    assert rig.ended == {}
    assert rig.slots[0].asked == 0


async def test_jobs_whose_time_passed_in_the_sleep_are_given_up_and_others_go_on(rig):
    rig.job("short", ttl=150)
    rig.job("long", ttl=3600)
    await asyncio.sleep(0)
    rig.slept_s = 1000.0
    await rig.more_ticks()
    assert list(rig.ended) == ["short"]
    assert "slept beyond the job's 150 s" in rig.ended["short"]


async def test_a_job_has_after_the_sleep_only_what_is_left_of_its_time(rig):
    job = rig.job("a", ttl=3600)
    await asyncio.sleep(0)
    deadline = job.deadline
    rig.slept_s = 1000.0
    await rig.more_ticks()
    assert job.deadline == pytest.approx(deadline - 1000.0, abs=5.0)
    rig.slept_s += 3000.0
    await rig.more_ticks()
    assert list(rig.ended) == ["a"]


async def test_a_job_that_is_late_though_nobody_slept_is_given_up_and_nobody_says_that_the_machine_slept(rig):
    rig.job("a", ttl=150).popped_at -= 150.0
    await rig.more_ticks()
    assert rig.ended == {"a": "The job was not done within its 150 s."}


async def test_engines_are_asked_and_those_that_do_not_answer_start_afresh(rig):
    rig.slots.append(Slot(EngineDied("gone")))
    rig.slept_s = 60.0
    await rig.more_ticks()
    assert [slot.asked for slot in rig.slots] == [1, 1]
    assert [len(slot.restarted) for slot in rig.slots] == [0, 1]


async def test_a_small_gap_is_no_sleep(rig):
    rig.slept_s = 5.0
    await rig.more_ticks()
    assert rig.slots[0].asked == 0
