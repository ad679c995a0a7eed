"""What becomes of a job whose engine fails."""

import asyncio
from pathlib import Path

import psutil
import pytest

from tests.unit.engine.pooled import FOR_EVER_S, Build, Job, Play, Until, all_ready, pid_of, until_ready
from worker.aio import timeout
from worker.demo.engine.script import Fault, FaultKind, strikes
from worker.engine.pool import PLACES_PER_SLOT, EnginePool
from worker.engine.process import EngineSettings
from worker.engine.retries import RenderRetries
from worker.engine.slot import SlotState
from worker.errors import EngineDied, EngineStalled, GraphRejected, OutOfMemory


@pytest.mark.parametrize("kind", [FaultKind.CRASH, FaultKind.SEGFAULT, FaultKind.HANG, FaultKind.DEVICE_LOST])
async def test_a_job_whose_engine_fails_is_done_by_another_and_the_first_is_restarted(
    two: list[EngineSettings], sampler_graph: Build, play: Play, until: Until, kind: FaultKind
) -> None:
    job = Job(sampler_graph())
    async with all_ready(EnginePool(two, silence_limit_s=1), until) as pool:
        play(faults=(Fault(kind),))

        assert len(await pool.render(job.task())) == 1

        await until_ready(pool, until)
        assert [slot.restarts for slot in pool.slots] == [1, 0]
        assert [slot.taken for slot in pool.slots] == [0, 0]
        assert job.asked == [(True, False)] * 2


async def test_a_failure_that_is_not_the_engines_end_is_tried_on_another_slot(
    two: list[EngineSettings], sampler_graph: Build, play: Play, until: Until
) -> None:
    async with all_ready(EnginePool(two), until) as pool:
        play(faults=(Fault(FaultKind.NODE_FAILURE),))

        assert len(await pool.render(Job(sampler_graph()).task())) == 1

        assert [slot.restarts for slot in pool.slots] == [0, 0]
        assert [slot.models for slot in pool.slots] == [("a",), ("a",)]


@pytest.mark.parametrize("goes_down", ["before", "meanwhile"])
async def test_a_retry_does_not_wait_for_another_slot_that_is_out_of_service(
    two: list[EngineSettings], sampler_graph: Build, play: Play, until: Until, goes_down: str
) -> None:
    async with all_ready(EnginePool(two), until) as pool:
        first, second = pool.slots
        start_no_more = Fault(FaultKind.START_FAILURE, times=None)
        play(faults=(Fault(FaultKind.NODE_FAILURE), start_no_more))
        first.taken = PLACES_PER_SLOT
        if goes_down == "before":
            first.restart(EngineDied("…"))
        job = Job(sampler_graph())
        render = asyncio.ensure_future(pool.render(job.task()))
        if goes_down == "meanwhile":
            await until(lambda: pool._waiting)
            first.restart(EngineDied("…"))

        async with timeout(60):
            assert len(await render) == 1
        assert (second.restarts, len(job.asked)) == (0, 2)


async def test_with_one_slot_the_retry_waits_for_its_new_engine(
    settings: EngineSettings, sampler_graph: Build, play: Play
) -> None:
    play(faults=(Fault(FaultKind.CRASH),))
    async with EnginePool([settings]).running() as pool:
        assert len(await pool.render(Job(sampler_graph()).task())) == 1
        assert pool.slots[0].restarts == 1


async def test_after_memory_ran_out_everything_is_freed_and_the_graph_saves_memory(
    settings: EngineSettings, sampler_graph: Build, play: Play
) -> None:
    play(faults=(Fault(FaultKind.OUT_OF_MEMORY),))
    job = Job(sampler_graph())
    async with EnginePool([settings]).running() as pool:
        assert len(await pool.render(job.task())) == 1

    assert job.asked == [(True, False), (True, True)]
    assert "Free: models True, results True" in settings.log_file.read_text(encoding="utf-8")


async def test_the_error_of_the_last_try_is_the_jobs(
    two: list[EngineSettings], sampler_graph: Build, play: Play, script_file: Path
) -> None:
    play(faults=(Fault(FaultKind.OUT_OF_MEMORY, times=None),))
    async with EnginePool(two).running() as pool:
        with pytest.raises(OutOfMemory):
            await pool.render(Job(sampler_graph()).task())

    assert strikes(script_file)[FaultKind.OUT_OF_MEMORY] == 2


async def test_a_job_that_no_engine_had_begun_is_not_charged_with_their_deaths(
    settings: EngineSettings, sampler_graph: Build, play: Play, until: Until
) -> None:
    play(seconds=FOR_EVER_S)
    async with EnginePool([settings]).running() as pool:
        slot = await pool.ready()
        slot.policy.backoff_s = (0.0,)
        first, waiting = Job(sampler_graph(1)), Job(sampler_graph(2))
        blocker = asyncio.ensure_future(pool.render(first.task()))
        await until(lambda: slot.client.outstanding == 1)
        behind = asyncio.ensure_future(pool.render(waiting.task()))
        for deaths in (1, 2):
            await until(lambda: slot.state is SlotState.READY and slot.client.outstanding == 2)
            await first.begun.wait()
            first.begun.clear()
            psutil.Process(pid_of(slot)).kill()
            await until(lambda deaths=deaths: slot.restarts == deaths)
        play()

        assert len(await behind) == 1
        with pytest.raises(EngineDied):
            await blocker


async def test_what_a_job_waited_behind_another_is_not_what_its_try_took(
    settings: EngineSettings, sampler_graph: Build, play: Play, until: Until
) -> None:
    play(seconds=FOR_EVER_S)
    # No time is enough for another try after one that took any.
    async with EnginePool([settings], retry=RenderRetries(share_of_first=1e9)).running() as pool:
        slot = await pool.ready()
        first, waiting = Job(sampler_graph(1)), Job(sampler_graph(2))
        blocker = asyncio.ensure_future(pool.render(first.task()))
        await first.begun.wait()
        behind = asyncio.ensure_future(pool.render(waiting.task()))
        await until(lambda: slot.client.outstanding == 2)
        play()
        psutil.Process(pid_of(slot)).kill()

        assert len(await behind) == 1
        with pytest.raises(EngineDied):
            await blocker


async def test_nothing_is_tried_again_that_cannot_help(
    settings: EngineSettings, plain_graph: Build, play: Play, script_file: Path
) -> None:
    play(faults=(Fault(FaultKind.REFUSAL, times=None),))
    async with EnginePool([settings]).running() as pool:
        with pytest.raises(GraphRejected):
            await pool.render(Job(plain_graph()).task())

    assert strikes(script_file)[FaultKind.REFUSAL] == 1


async def test_without_time_left_there_is_no_second_try(
    settings: EngineSettings, sampler_graph: Build, play: Play, script_file: Path
) -> None:
    play(faults=(Fault(FaultKind.NODE_FAILURE, times=None),))
    async with EnginePool([settings], retry=RenderRetries(attempts=5)).running() as pool:
        with pytest.raises(Exception, match="KSampler"):
            await pool.render(Job(sampler_graph()).task(seconds=0))

    assert strikes(script_file)[FaultKind.NODE_FAILURE] == 1


@pytest.mark.parametrize("when", ["renders", "waits behind another"])
async def test_a_job_is_told_how_its_engine_ended_and_what_it_wrote_last(
    settings: EngineSettings, sampler_graph: Build, play: Play, until: Until, when: str
) -> None:
    play(seconds=FOR_EVER_S)
    async with EnginePool([settings], retry=RenderRetries(attempts=1, most_attempts=1)).running() as pool:
        slot = await pool.ready()
        first = Job(sampler_graph(1))
        tasks = [asyncio.ensure_future(pool.render(first.task()))]
        await first.begun.wait()
        if when != "renders":
            tasks.append(asyncio.ensure_future(pool.render(Job(sampler_graph(2)).task())))
            await until(lambda: slot.client.outstanding == 2)
        with settings.log_file.open("a", encoding="utf-8") as log:
            log.write("RuntimeError: the last words\n")

        psutil.Process(pid_of(slot)).kill()

        with pytest.raises(EngineDied, match=r"killed by SIGKILL.*\n(.*\n)*RuntimeError: the last words"):
            await tasks[-1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_job_that_comes_as_its_engine_ends_is_told_how(
    settings: EngineSettings, plain_graph: Build, play: Play, until: Until
) -> None:
    play(accept_seconds=FOR_EVER_S)
    async with EnginePool([settings], retry=RenderRetries(attempts=1, most_attempts=1)).running() as pool:
        slot = await pool.ready()
        coming = asyncio.ensure_future(pool.render(Job(plain_graph()).task()))
        await until(lambda: "Prompt received" in settings.log_file.read_text(encoding="utf-8"))

        psutil.Process(pid_of(slot)).kill()

        with pytest.raises(EngineDied, match="killed by SIGKILL"):
            await coming


async def test_a_job_that_waits_behind_one_that_stalls_the_engine_is_told_why_it_was_restarted(
    settings: EngineSettings, sampler_graph: Build, play: Play, until: Until
) -> None:
    play(seconds=FOR_EVER_S)
    async with EnginePool([settings], retry=RenderRetries(attempts=1, most_attempts=1)).running() as pool:
        slot = await pool.ready()
        first = Job(sampler_graph(1))
        tasks = [asyncio.ensure_future(pool.render(first.task()))]
        await first.begun.wait()
        tasks.append(asyncio.ensure_future(pool.render(Job(sampler_graph(2)).task())))
        await until(lambda: slot.client.outstanding == 2)

        slot.restart(EngineStalled("It stands still."))

        with pytest.raises(EngineDied, match="is restarted: It stands still"):
            await tasks[1]
        await asyncio.gather(*tasks, return_exceptions=True)
