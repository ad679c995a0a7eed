"""Which good jobs of a soak count as lost."""

import pytest

from worker.demo.horde.records import Accounting, Outcome
from worker.errors import EngineDied, JobLate, PayloadFailed, UploadFailed, WorkerError
from worker.horde.messages import PopResponse
from worker.jobs.job import Job

from .good_jobs import GoodJobs

pytestmark = pytest.mark.chaos


def books(outcome: Outcome, *, undelivered: bool = False) -> Accounting:
    ids = frozenset({"a"} if undelivered else ())
    return Accounting({"a": outcome}, ids, duplicates=0, late=0, repeats=0, unknown=0, kudos=0.0)


async def faulted(error: WorkerError | None, fault: str = "why") -> Job:
    job = Job(PopResponse(id="a", ids=["a"]))
    job.error, job.fault = error, str(error) if error else fault
    return job


@pytest.mark.parametrize("error", [JobLate("late"), PayloadFailed("text")])
async def test_a_good_job_that_fails_without_an_injected_fault_is_lost(error: WorkerError) -> None:
    good = GoodJobs()
    good.judge(books(Outcome.FAULTED), [await faulted(error)], hostile=(), broken_off=False)
    assert good.lost == {"a": str(error)}


@pytest.mark.parametrize("error", [EngineDied("killed"), UploadFailed("403")])
async def test_a_good_job_that_an_injected_fault_strikes_is_hit(error: WorkerError) -> None:
    good = GoodJobs()
    good.judge(books(Outcome.FAULTED), [await faulted(error)], hostile=(), broken_off=False)
    assert (good.hit, good.lost) == ({"a"}, {})


async def test_the_end_of_a_session_explains_a_job_given_back_but_no_defect_and_no_late_job() -> None:
    for job, lost in (
        (await faulted(None, "The worker is shutting down."), 0),
        (await faulted(None, "internal error: KeyError"), 1),
        (await faulted(JobLate("late")), 1),
    ):
        good = GoodJobs()
        good.judge(books(Outcome.FAULTED), [job], hostile=(), broken_off=True)
        assert len(good.lost) == lost, job.fault


async def test_a_job_that_was_never_begun_is_lost_unless_its_session_was_broken_off() -> None:
    for broken_off in (False, True):
        good = GoodJobs()
        good.judge(books(Outcome.FAULTED), [], hostile=(), broken_off=broken_off)
        assert bool(good.lost) != broken_off


async def test_hostile_and_undelivered_jobs_are_no_good_jobs() -> None:
    good = GoodJobs()
    good.judge(books(Outcome.FAULTED), [], hostile={"a"}, broken_off=False)
    good.judge(books(Outcome.OPEN, undelivered=True), [], hostile=(), broken_off=False)
    assert (good.delivered, good.hit, good.lost) == (set(), set(), {})
