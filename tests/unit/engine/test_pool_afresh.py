"""Engines that are started afresh between two jobs: one that has grown, and for another model where that is wanted."""

import asyncio
from dataclasses import replace

import pytest

from tests.unit.engine.pooled import FOR_EVER_S, Build, Job, Play, Until, all_ready, pid_of
from worker.aio import timeout
from worker.demo.engine.script import Fault, FaultKind
from worker.engine import slot as slot_module
from worker.engine.pool import EnginePool
from worker.engine.process import EngineSettings
from worker.engine.slot import SlotState


async def test_an_idle_engine_that_has_grown_is_started_afresh_and_serves_on(
    settings: EngineSettings, sampler_graph: Build, until: Until
) -> None:
    job = Job(sampler_graph())
    async with EnginePool([replace(settings, memory_limit_bytes=1)]).running() as pool:
        slot = await pool.ready()
        first = pid_of(slot)
        await pool.render(job.task())
        await until(lambda: slot.state is SlotState.READY and pid_of(slot) != first)

        assert len(await pool.render(job.task())) == 1
        assert slot.restarts == 0


@pytest.mark.parametrize("least_s", [0.0, FOR_EVER_S])
async def test_a_busy_engine_that_has_grown_gets_no_more_jobs_before_it_is_started_afresh_unless_that_was_just_now(
    settings: EngineSettings, sampler_graph: Build, until: Until, monkeypatch: pytest.MonkeyPatch, least_s: float
) -> None:
    monkeypatch.setattr(slot_module, "LEAST_SERVICE_S", least_s)
    async with EnginePool([replace(settings, memory_limit_bytes=1)]).running() as pool:
        slot = await pool.ready()
        first, pids = pid_of(slot), []

        async def render(seed: int) -> None:
            await pool.render(replace(Job(sampler_graph(seed)).task(), on_placed=lambda _: pids.append(pid_of(slot))))

        # The third waits for a place from the start: the engine is never idle between two of them.
        await asyncio.gather(*map(render, range(3)))

        assert [pid == first for pid in pids] == [True, True, least_s > 0]
        await until(lambda: slot.state is SlotState.READY and pid_of(slot) not in pids)
        assert slot.restarts == 0


async def test_where_the_owner_wants_it_another_model_begins_with_a_fresh_engine(
    settings: EngineSettings, plain_graph: Build
) -> None:
    pids: list[int] = []
    async with EnginePool([replace(settings, fresh_for_each_model=True)]).running() as pool:
        slot = await pool.ready()
        for model in "aabba":
            await pool.render(Job(plain_graph(), model=model).task())
            pids.append(pid_of(slot))
        assert slot.restarts == 0

    assert (pids[0] == pids[1], pids[2] == pids[3], len(set(pids))) == (True, True, 3)


async def test_of_two_engines_one_begins_afresh_for_another_model_and_renders_it(
    two: list[EngineSettings], plain_graph: Build, until: Until
) -> None:
    async with all_ready(EnginePool([replace(each, fresh_for_each_model=True) for each in two]), until) as pool:
        for slot in pool.slots:
            slot.uses("a")
        before = [pid_of(slot) for slot in pool.slots]
        placed: list[int] = []

        await pool.render(replace(Job(plain_graph(), model="b").task(), on_placed=placed.append))

        assert [pid_of(slot) == pid for slot, pid in zip(pool.slots, before, strict=True)] == [False, True]
        assert placed == [1]


async def test_an_engine_that_begins_afresh_is_for_the_job_that_needs_it(
    settings: EngineSettings, plain_graph: Build
) -> None:
    done: list[str] = []

    async def render(model: str) -> None:
        await pool.render(Job(plain_graph(), model=model).task())
        done.append(model)

    async with EnginePool([replace(settings, fresh_for_each_model=True)]).running() as pool:
        slot = await pool.ready()
        slot.uses("a")
        await asyncio.gather(*map(render, "bcd"))

    assert done == ["b", "c", "d"]


async def test_a_job_whose_fresh_engine_does_not_start_is_done_by_another(
    two: list[EngineSettings], plain_graph: Build, play: Play, until: Until
) -> None:
    async with all_ready(EnginePool([replace(each, fresh_for_each_model=True) for each in two]), until) as pool:
        first, second = pool.slots
        first.uses("a")
        second.uses("b")
        second.taken = 1
        play(faults=(Fault(FaultKind.START_FAILURE, times=None),))
        job = asyncio.ensure_future(pool.render(Job(plain_graph(), model="b").task()))
        await until(lambda: first.restarts)
        pool._give_back(second)

        async with timeout(60):
            assert len(await job) == 1
        assert second.models == ("b",)
