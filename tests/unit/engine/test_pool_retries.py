"""What becomes of a job whose engine fails."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.unit.engine.pooled import FOR_EVER_S, Build, Job, Play, Until, all_ready, pid_of, until_ready
from worker.aio import timeout
from worker.demo.engine.script import Fault, FaultKind, strikes
from worker.engine.pool import PLACES_PER_SLOT, EnginePool
from worker.engine.process import EngineSettings
from worker.engine.render_task import Conditions, PoolEstimates, Rendering, RenderRetries
from worker.engine.slot import SlotState
from worker.errors import (
    Addition,
    AdditionBroken,
    AdditionKind,
    EngineDied,
    EngineError,
    EngineStalled,
    GraphRejected,
    ImageNotFinite,
    OutOfMemory,
    PayloadFailed,
)


class Cleared(PoolEstimates):
    """Remembers which models were cleared of suspicion."""

    def __init__(self) -> None:
        self.models: set[str] = set()

    def models_cleared(self, models: Collection[str]) -> None:
        self.models |= set(models)


@pytest.fixture
def cleared() -> Cleared:
    return Cleared()


@pytest.mark.parametrize("kind", [FaultKind.CRASH, FaultKind.SEGFAULT, FaultKind.HANG, FaultKind.DEVICE_LOST])
async def test_a_job_whose_engine_fails_is_done_by_another_and_the_first_is_restarted(
    two: list[EngineSettings], sampler_graph: Build, play: Play, until: Until, kind: FaultKind
) -> None:
    job = Job(sampler_graph())
    # A second of a machine that stands still would look like an engine that hangs.
    silence_limit_s = 3.0 if kind is FaultKind.HANG else None
    async with all_ready(EnginePool(two, silence_limit_s=silence_limit_s), until) as pool:
        play(faults=(Fault(kind),))

        assert len(await pool.render(job.task())) == 1

        await until_ready(pool, until)
        assert [slot.restarts for slot in pool.slots] == [1, 0]
        assert [slot.taken for slot in pool.slots] == [0, 0]
        assert job.asked == [Conditions()] * 2


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

    assert job.asked == [Conditions(), Conditions(save_memory=True)]
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
        await until(lambda: len(slot.client._prompts) == 1)
        behind = asyncio.ensure_future(pool.render(waiting.task()))
        for deaths in (1, 2):
            await until(lambda: slot.state is SlotState.READY and len(slot.client._prompts) == 2)
            await first.begun.wait()
            psutil.Process(pid_of(slot)).kill()
            await until(lambda deaths=deaths: slot.restarts == deaths)
            # Not before: each node that begins sets it, and those of this engine may be on their way.
            first.begun.clear()
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
        await until(lambda: len(slot.client._prompts) == 2)
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
            await until(lambda: len(slot.client._prompts) == 2)
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
        await until(lambda: len(slot.client._prompts) == 2)

        slot.restart(EngineStalled("It stands still."))

        with pytest.raises(EngineDied, match="is restarted: It stands still"):
            await tasks[1]
        await asyncio.gather(*tasks, return_exceptions=True)


LORAS = [Addition(AdditionKind.LORA, f"{name}.safetensors") for name in "abc"]


def with_loras(graph: dict[str, Any], loras: list[Addition]) -> dict[str, Any]:
    """The graph with a chain of LoRAs before its sampler."""
    last = ["model", 0]
    made = dict(graph)
    for lora in loras:
        inputs = {"model": last, "clip": ["model", 1], "lora_name": lora.file, "strength_model": 1.0}
        made[lora.file] = {"class_type": "LoraLoader", "inputs": {**inputs, "strength_clip": 1.0}}
        last = [lora.file, 0]
    made["sampler"] = {**graph["sampler"], "inputs": {**graph["sampler"]["inputs"], "model": last}}
    return made


@pytest.mark.parametrize(("broken", "tries"), [("a", 2), ("b", 2), ("ab", 3), ("abc", 3)])
async def test_loras_that_an_engine_can_not_read_are_left_out_and_the_job_is_done(
    settings: EngineSettings, sampler_graph: Build, play: Play, broken: str, tries: int
) -> None:
    play(faults=tuple(Fault(FaultKind.LORA_BROKEN, times=None, lora=f"{name}.safetensors") for name in broken))
    asked: list[Conditions] = []
    told: list[EngineError] = []

    def prepare(conditions: Conditions) -> list[Rendering]:
        asked.append(conditions)
        left = [lora for lora in LORAS if lora not in conditions.without]
        return [Rendering(with_loras(sampler_graph(), left), ("out",), 1)]

    async with EnginePool([settings]).running() as pool:
        task = replace(Job(sampler_graph()).task(), prepare=prepare, on_failed=told.append, additions=frozenset(LORAS))
        assert len(await pool.render(task)) == 1
        assert pool.slots[0].restarts == 0

    assert len(asked) == tries
    assert {lora.file[0] for lora in asked[-1].without} >= set(broken)
    assert all(isinstance(error, AdditionBroken) for error in told)
    assert len(told) == tries - 1


async def test_what_a_requester_wrote_is_tried_once_and_costs_no_engine_anything(
    settings: EngineSettings, sampler_graph: Build, play: Play, script_file: Path
) -> None:
    play(faults=(Fault(FaultKind.TEXT_FAILURE, times=None),))
    async with EnginePool([settings]).running() as pool:
        with pytest.raises(PayloadFailed, match="CLIPTextEncode"):
            await pool.render(Job(sampler_graph()).task())
        assert pool.slots[0].restarts == 0

    assert strikes(script_file)[FaultKind.TEXT_FAILURE] == 1


async def test_images_that_are_not_finite_are_tried_once_more_and_then_the_engine_is_restarted(
    settings: EngineSettings, sampler_graph: Build, play: Play, script_file: Path, until: Until
) -> None:
    play(faults=(Fault(FaultKind.NOT_FINITE),))
    async with EnginePool([settings]).running() as pool:
        [slot] = pool.slots
        assert len(await pool.render(Job(sampler_graph()).task())) == 1
        assert slot.restarts == 0

        play(faults=(Fault(FaultKind.NOT_FINITE, times=2),))
        with pytest.raises(ImageNotFinite):
            await pool.render(Job(sampler_graph(2)).task())
        await until(lambda: slot.restarts == 1)
        assert len(await pool.render(Job(sampler_graph(3)).task())) == 1


async def test_an_engine_that_gives_nan_with_several_models_is_set_aside_and_the_models_are_not(
    settings: EngineSettings, sampler_graph: Build, play: Play, until: Until, cleared: Cleared
) -> None:
    play(faults=(Fault(FaultKind.NOT_FINITE, times=None),))
    async with EnginePool([settings], estimates=cleared, retry=RenderRetries(attempts=1)).running() as pool:
        [slot] = pool.slots
        for seed, model in enumerate("abc"):
            with pytest.raises(ImageNotFinite):
                await pool.render(Job(sampler_graph(seed), model=model).task())
        await until(lambda: slot.state is SlotState.RESTING and slot.restarts == 1)
        assert isinstance(slot.reason, ImageNotFinite)
        assert "with a and b and c" in slot.reason.message
        assert "overclocking" in slot.reason.remedy
        assert cleared.models == {"a", "b", "c"}


async def test_jobs_with_loras_are_no_evidence_against_an_engine(
    settings: EngineSettings, sampler_graph: Build, play: Play, cleared: Cleared
) -> None:
    play(faults=(Fault(FaultKind.NOT_FINITE, times=None),))
    lora = Addition(AdditionKind.LORA, "a.safetensors")
    async with EnginePool([settings], estimates=cleared, retry=RenderRetries(attempts=1)).running() as pool:
        for seed, model in enumerate("abc"):
            task = replace(Job(sampler_graph(seed), model=model).task(), additions=frozenset({lora}))
            with pytest.raises(ImageNotFinite):
                await pool.render(task)
        assert cleared.models == set()


async def test_after_an_image_that_is_not_finite_the_next_try_does_without_what_the_job_names(
    settings: EngineSettings, sampler_graph: Build, play: Play
) -> None:
    """A strong LoRA overflows on a sound engine, which was restarted for it, and the job was faulted."""
    asked: list[Conditions] = []

    def prepare(conditions: Conditions) -> list[Rendering]:
        asked.append(conditions)
        return [Rendering(sampler_graph(len(asked)), ("out",), 1)]

    async with EnginePool([settings]).running() as pool:
        for _ in range(3):
            play(faults=(Fault(FaultKind.NOT_FINITE),))
            task = replace(Job(sampler_graph()).task(), prepare=prepare, additions=frozenset(LORAS))
            assert len(await pool.render(task)) == 1
        assert pool.slots[0].restarts == 0
    assert [conditions.without for conditions in asked] == [frozenset(), frozenset(LORAS)] * 3
