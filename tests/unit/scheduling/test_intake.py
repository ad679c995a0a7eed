"""The intake asks for jobs while that makes sense, and ends only for what its owner must mend."""

import asyncio

import pytest

from worker.aio import timeout, ungrouped
from worker.errors import HordeBusy, HordeKeyUnknown, HordeRefused, WorkerError
from worker.horde.messages import PopRequest, PopResponse
from worker.jobs.job import Stage
from worker.scheduling import intake as module
from worker.scheduling.intake import Intake
from worker.scheduling.planner import Capacity

#: For everything a test waits for.
PATIENCE_S = 60.0
#: what is asked for plays no part here
REQUEST = PopRequest.model_construct()
UNKNOWN_KEY = HordeKeyUnknown("No account.", rc="InvalidAPIKey", remedy="Check api_key.")
NOTHING = PopResponse()


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


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    for name in ("EMPTY_PAUSE_S", "ERROR_PAUSE_S", "MAINTENANCE_PAUSE_S"):
        monkeypatch.setattr(module, name, 0.0)


async def run(horde):
    intake = Intake(horde, runner=None, offer=lambda asking: REQUEST, room=lambda: Capacity(1, 0, 0.0))
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


async def test_an_owner_learns_why_the_horde_lets_him_wait_for_long(warnings):
    horde = Horde(HordeBusy("The address is in time-out.", retry_after_s=3000.0))
    await run(horde)
    assert warnings == ["No jobs, next try in 3000 s: The address is in time-out."]


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

    def __init__(self, *stages):
        self.stages = list(stages)
        self.jobs = []
        self.let_go = asyncio.Event()

    async def run(self, job, *, on_rendered):
        job.stage = self.stages[min(len(self.jobs), len(self.stages) - 1)]
        self.jobs.append(job)
        await self.let_go.wait()
        on_rendered()
        job.ended_at = 0.0


async def taken(room, *stages):
    """How many jobs are taken in the end, when each of them comes to a stage and stays there."""
    runner, stop = Runner(*stages), asyncio.Event()
    intake = Intake(Plenty(), runner, offer=lambda asking: REQUEST, room=lambda: room)
    running = asyncio.ensure_future(intake.run(stop))
    for _ in range(200):
        await asyncio.sleep(0)
    count = len(runner.jobs)
    stop.set()
    runner.let_go.set()
    async with timeout(PATIENCE_S):
        await running
    return count


@pytest.fixture
def _looks_often(monkeypatch):
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(module, "FILES_PATIENCE_S", 0.0)


@pytest.mark.usefixtures("_looks_often")
@pytest.mark.parametrize(("engines", "queue"), [(1, 0), (1, 1), (3, 0), (2, 2)])
async def test_jobs_that_wait_for_their_files_keep_no_engine_idle_but_one_more_each_is_the_most(engines, queue):
    assert await taken(Capacity(engines, queue, 0.0), Stage.FETCHING) == engines + queue + engines


@pytest.mark.usefixtures("_looks_often")
async def test_jobs_that_want_an_engine_are_as_many_as_the_owner_wants():
    assert await taken(Capacity(2, 1, 0.0), Stage.RENDERING) == 3


@pytest.mark.usefixtures("_looks_often")
async def test_one_job_that_waits_for_its_files_makes_room_for_one():
    assert await taken(Capacity(2, 0, 0.0), Stage.FETCHING, Stage.RENDERING) == 3


async def test_a_job_that_has_just_come_is_given_a_moment_for_its_files(monkeypatch):
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.0)
    assert await taken(Capacity(1, 0, 0.0), Stage.FETCHING) == 1


def broken_brake(horde):
    raise WorkerError("It is of no use.")


def refused_pop(horde):
    horde.refusal = HordeRefused("It is of no use.")
    return 0.0, ""


@pytest.mark.parametrize("end", [broken_brake, refused_pop])
async def test_what_ends_the_intake_lets_jobs_under_way_end_and_is_told_then(end, monkeypatch):
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.0)
    horde, runner = Plenty(), Runner(Stage.RENDERING)

    def brake():
        return end(horde) if runner.jobs else (0.0, "")

    intake = Intake(horde, runner, offer=lambda asking: REQUEST, room=lambda: Capacity(2, 0, 0.0), brake=brake)
    running = asyncio.ensure_future(intake.run(asyncio.Event()))
    async with timeout(PATIENCE_S):
        while not runner.jobs:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not running.done()
        runner.let_go.set()
        with pytest.raises(WorkerError, match="of no use"):
            await running
    assert all(job.ended_at is not None for job in runner.jobs)
