"""The intake asks for jobs when it is told to, and ends only for what its owner must mend."""

import asyncio
from typing import Any

import pytest

from worker.aio import timeout, ungrouped
from worker.errors import HordeBusy, HordeKeyUnknown, HordeRefused, WorkerError
from worker.horde.messages import PopRequest, PopResponse
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.job import JobEvents, Stage
from worker.scheduling.intake import Intake
from worker.scheduling.pop_admission import Admitted, Wait
from worker.scheduling.pop_backoff import PopBackoff, PopPauses
from worker.scheduling.wait_log import WaitKind, WaitLog, WaitReason

#: For everything a test waits for.
PATIENCE_S = 60.0
#: what is asked for plays no part here
NOTHING_SAID: dict[str, Any] = {"bridge_agent": "AI Horde Worker reGen:13.0.0:u"}
POP = Admitted(PopRequest.model_construct(**NOTHING_SAID))
ENOUGH = Wait(0.0, (WaitReason(WaitKind.ENOUGH, "Enough."),))
UNKNOWN_KEY = HordeKeyUnknown("No account.", rc="InvalidAPIKey", remedy="Check api_key.")
NOTHING = PopResponse()
AT_ONCE = PopPauses(0.0, 0.0, 0.0, 0.0)


class Horde:
    """Answers pops as told, then stops the worker."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.stop = asyncio.Event()

    async def pop(self, request):
        answer = self.answers.pop(0)
        if not self.answers:
            self.stop.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Always:
    """An admission that wants one pop at a time, and tells of the Horde's troubles."""

    def __init__(self, pop_backoff):
        self.pop_backoff = pop_backoff
        self.report = WaitLog()

    def decide(self, *, asking, fetch_s):
        self.report.note([self.pop_backoff.trouble] if self.pop_backoff.trouble else [], 0.0)
        return ENOUGH if asking else POP


def intake_of(horde, runner=None, decide=None):
    pop_backoff = PopBackoff(AT_ONCE)
    admission = Always(pop_backoff)
    admission.decide = decide or admission.decide
    in_flight = JobsInFlight()
    intake = Intake(horde, runner, admission, pop_backoff=pop_backoff, in_flight=in_flight, events=JobEvents())
    return intake, in_flight


async def run(horde):
    intake, _ = intake_of(horde)
    with ungrouped():
        async with timeout(PATIENCE_S):
            await intake.run(horde.stop)


async def test_a_key_that_is_unknown_from_the_first_ends_the_worker():
    horde = Horde(UNKNOWN_KEY, NOTHING)
    with pytest.raises(HordeRefused, match="api_key"):
        await run(horde)


async def test_a_key_that_was_known_before_is_tried_again_and_its_owner_told_once(warnings):
    horde = Horde(NOTHING, UNKNOWN_KEY, UNKNOWN_KEY, UNKNOWN_KEY, NOTHING)
    await run(horde)
    assert horde.answers == []
    assert len(warnings) == 1
    assert "Check api_key." in warnings[0]


async def test_any_other_refusal_ends_the_worker_at_once():
    horde = Horde(NOTHING, HordeRefused("Another account's name."), NOTHING)
    with pytest.raises(HordeRefused, match="Another account"):
        await run(horde)


async def test_a_busy_horde_does_not_end_the_worker():
    horde = Horde(HordeBusy("The address is in time-out.", retry_after_s=0.0), NOTHING)
    await run(horde)
    assert horde.answers == []


class Plenty:
    """A Horde that has a job for every pop, until it wants no more of it."""

    def __init__(self):
        self.popped = 0
        self.refusal = None

    async def pop(self, request):
        if self.refusal:
            raise self.refusal
        self.popped += 1
        return PopResponse(ids=[str(self.popped)], payload={})


class Runner:
    """Jobs that come to a stage and stay there until they are let go."""

    def __init__(self):
        self.jobs = []
        self.let_go = asyncio.Event()

    async def run(self, job):
        job.stage = Stage.RENDERING
        self.jobs.append(job)
        await self.let_go.wait()
        job.ended_at = 0.0


def ends_the_worker(horde):
    raise WorkerError("It is of no use.")


def ends_at_the_next_pop(horde):
    horde.refusal = HordeRefused("It is of no use.")
    return POP


@pytest.mark.parametrize("end", [ends_the_worker, ends_at_the_next_pop])
async def test_what_ends_the_intake_lets_jobs_under_way_end_and_is_told_then(end):
    horde, runner = Plenty(), Runner()

    def decide(*, asking, fetch_s):
        if asking:
            return ENOUGH
        return end(horde) if runner.jobs else POP

    intake, in_flight = intake_of(horde, runner, decide)
    running = asyncio.ensure_future(intake.run(asyncio.Event()))
    async with timeout(PATIENCE_S):
        while not runner.jobs:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not running.done()
        assert list(in_flight.jobs) == runner.jobs
        runner.let_go.set()
        with pytest.raises(WorkerError, match="of no use"):
            await running
    assert in_flight.jobs == ()


async def test_a_job_that_is_under_way_and_comes_again_is_not_begun_again(warnings):
    horde, runner, stop = Horde(*[PopResponse(ids=["a", "b"], payload={})] * 3), Runner(), asyncio.Event()

    def decide(*, asking, fetch_s):
        return ENOUGH if asking or not horde.answers else POP

    intake, in_flight = intake_of(horde, runner, decide)
    running = asyncio.ensure_future(intake.run(stop))
    async with timeout(PATIENCE_S):
        while horde.answers or not runner.jobs:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert list(in_flight.jobs) == runner.jobs
        stop.set()
        runner.let_go.set()
        await running
    assert len(runner.jobs) == 1
    assert warnings == ["The Horde sent job a once more."] * 2


async def test_a_defect_in_the_decision_ends_no_job_under_way(warnings):
    horde, runner, stop = Plenty(), Runner(), asyncio.Event()

    def decide(*, asking, fetch_s):
        if runner.jobs:
            raise ZeroDivisionError
        return ENOUGH if asking else POP

    intake, in_flight = intake_of(horde, runner, decide)
    running = asyncio.ensure_future(intake.run(stop))
    async with timeout(PATIENCE_S):
        while not warnings:
            await asyncio.sleep(0)
        assert list(in_flight.jobs) == runner.jobs
        assert not running.done()
        stop.set()
        runner.let_go.set()
        await running
    assert "A defect in the worker" in warnings[0]
