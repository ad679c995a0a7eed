"""Memory that the pictures of all jobs share."""

import asyncio
import time

import pytest

from worker.untrusted.pictures import MemoryBudget


async def settled(task):
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


async def test_who_finds_no_room_waits_until_there_is_some():
    budget = MemoryBudget(100)
    with budget.reserve() as first:
        await first.take(80)
        with budget.reserve() as second:
            waiting = asyncio.ensure_future(second.take(30))
            assert not await settled(waiting)
            first.free(20)
            await waiting
            assert budget.used_bytes == 90
    assert budget.used_bytes == 0


async def test_small_pictures_pass_a_large_one_that_waits():
    budget = MemoryBudget(100)
    with budget.reserve() as first, budget.reserve() as large, budget.reserve() as small:
        await first.take(60)
        waiting = asyncio.ensure_future(large.take(50))
        await small.take(40)
        assert not await settled(waiting)
        waiting.cancel()


async def test_two_that_wait_for_each_other_do_not_wait_for_ever():
    budget = MemoryBudget(100, 200)

    async def grow():
        with budget.reserve() as reservation:
            for _ in range(8):
                await reservation.take(20)
                await asyncio.sleep(0)

    await asyncio.gather(*(grow() for _ in range(5)))
    assert budget.used_bytes == 0


async def test_what_was_reserved_is_given_back_when_the_job_fails_or_is_cancelled():
    budget = MemoryBudget(100)

    async def fail():
        with budget.reserve() as reservation:
            await reservation.take(100)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    with budget.reserve() as first:
        await first.take(100)

        async def wait():
            with budget.reserve() as second:
                await second.take(1)

        task = asyncio.ensure_future(wait())
        await settled(task)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert budget.used_bytes == 100


async def test_work_on_pictures_is_done_one_by_one_whatever_jobs_they_are_of():
    budget, at_work, most = MemoryBudget(1000), 0, 0

    def work():
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.01)
        at_work -= 1

    with budget.reserve() as one, budget.reserve() as other:
        await asyncio.gather(*(each.work(work) for each in (one, other) * 3))
    assert most == 1
