"""Who renders what, and where."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.unit.engine.pooled import FOR_EVER_S, Build, Job, Play, Until, all_ready, pid_of, until_ready
from worker.demo.engine.script import Fault, FaultKind
from worker.engine.client import EngineClient
from worker.engine.events import MemoryNeed
from worker.engine.pool import PLACES_PER_SLOT, EnginePool
from worker.engine.process import EngineSettings
from worker.engine.render_task import Conditions, PoolEstimates, Rendering, RenderTask
from worker.engine.slot import EngineSlot, SlotState
from worker.errors import EngineDied, EngineStartFailed, GraphRejected


async def test_a_job_is_rendered_by_a_ready_slot_and_its_place_is_given_back(
    settings: EngineSettings, sampler_graph: Build
) -> None:
    job = Job(sampler_graph())
    async with EnginePool([settings]).running() as pool:
        slot = await pool.ready()
        images = await pool.render(job.task())

        assert len(images) == 1
        assert (slot.taken, slot.models) == (0, ("a",))
        assert job.asked == [Conditions()]


async def test_a_job_that_comes_before_the_engine_waits_for_it(settings: EngineSettings, plain_graph: Build) -> None:
    async with EnginePool([settings]).running() as pool:
        assert len(await pool.render(Job(plain_graph()).task())) == 1


async def test_the_graph_is_prepared_for_a_stock_engine(settings: EngineSettings, plain_graph: Build) -> None:
    graph = plain_graph()
    graph["out"]["class_type"] = "SaveImageWebsocket"
    job = Job(graph)
    async with EnginePool([replace(settings, with_node_pack=False)]).running() as pool:
        assert len(await pool.render(job.task())) == 1

    assert job.asked == [Conditions(has_node_pack=False)]


async def test_pictures_are_there_for_the_job_and_gone_after_it(settings: EngineSettings, plain_graph: Build) -> None:
    graph = plain_graph()
    graph["image"] = {"class_type": "HordeImageInput", "inputs": {"key": "abc"}}
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
        "a5f645400000000049454e44ae426082"
    )
    async with EnginePool([settings]).running() as pool:
        assert len(await pool.render(Job(graph, pictures={"abc": png}).task())) == 1
        with pytest.raises(GraphRejected, match="no picture"):
            await pool.render(Job(graph).task())


async def test_what_a_rendering_took_of_its_card_is_handed_on_with_the_slot_that_has_it(
    two: list[EngineSettings], sampler_graph: Build, play: Play
) -> None:
    play(card_bytes=1000_000, bytes_per_pixel=1)
    told: list[tuple[int, str, int, MemoryNeed]] = []

    class Told(PoolEstimates):
        def memory_taken(self, slot: EngineSlot, task: RenderTask, rendering: Rendering, need: MemoryNeed) -> None:
            told.append((slot.number, task.model, rendering.count, need))

    async with EnginePool(two, estimates=Told()).running() as pool:
        placed: list[int] = []
        await pool.render(replace(Job(sampler_graph()).task(), on_placed=placed.append))

    assert told == [(placed[0], "a", 1, MemoryNeed(64 * 96, 1000_000))]


async def test_a_slot_has_one_place_more_than_it_renders(
    settings: EngineSettings, sampler_graph: Build, play: Play, until: Until
) -> None:
    play(seconds=FOR_EVER_S)
    async with EnginePool([settings]).running() as pool:
        slot = await pool.ready()
        tasks = [asyncio.ensure_future(pool.render(Job(sampler_graph(seed)).task())) for seed in range(3)]
        await until(lambda: slot.taken == PLACES_PER_SLOT and len(slot.client._prompts) == PLACES_PER_SLOT)
        assert len(pool._waiting) == 1

        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert slot.taken == 0
        assert all(request.place.done() for request in pool._waiting)


async def test_waiting_jobs_are_served_in_the_order_they_came(
    settings: EngineSettings, sampler_graph: Build, plain_graph: Build, play: Play, until: Until
) -> None:
    play(seconds=FOR_EVER_S)
    # Of the prompts that are under way to an engine at once, it may hear any first: places are what the pool gives.
    placed: list[int] = []

    async def render(pool: EnginePool, number: int) -> None:
        task = Job(plain_graph(number), model=str(number % 2)).task()
        await pool.render(replace(task, on_placed=lambda _: placed.append(number)))

    async with EnginePool([settings]).running() as pool:
        await pool.ready()
        first = Job(sampler_graph())
        blocker = asyncio.ensure_future(pool.render(first.task()))
        await first.begun.wait()
        jobs = []
        for number in range(6):
            jobs.append(asyncio.ensure_future(render(pool, number)))
            await asyncio.sleep(0)
        play()
        blocker.cancel()
        await asyncio.gather(*jobs)

    assert placed == list(range(6))


async def test_a_caller_that_gives_up_as_it_gets_its_place_hands_it_on(
    settings: EngineSettings, sampler_graph: Build, plain_graph: Build, until: Until
) -> None:
    pool = EnginePool([settings])
    taken = [pool.slots[0]] * PLACES_PER_SLOT
    async with pool.running():
        slot = await pool.ready()
        for _ in taken:
            await pool._take(Job(plain_graph()).task())
        gives_up = asyncio.ensure_future(pool.render(Job(plain_graph(1)).task()))
        patient = asyncio.ensure_future(pool.render(Job(plain_graph(2)).task()))
        await until(lambda: len(pool._waiting) == 2)

        pool._give_back(slot)
        gives_up.cancel()

        assert (await patient)[0].pixels[:3] == b"\x00\x00\x02"
        assert slot.taken == 1
        pool._give_back(slot)


async def test_among_idle_slots_the_one_with_the_model_is_taken(
    two: list[EngineSettings], plain_graph: Build, until: Until
) -> None:
    async with all_ready(EnginePool(two), until) as pool:
        first, second = pool.slots
        first.models, second.models = ("a",), ("b",)

        for model, expected in [("b", second), ("a", first), ("c", first), ("b", second)]:
            await pool.render(Job(plain_graph(), model=model).task())
            assert expected.models == (model,)


async def test_an_idle_slot_is_taken_before_one_that_has_the_model_but_works(
    two: list[EngineSettings], plain_graph: Build, until: Until
) -> None:
    async with all_ready(EnginePool(two), until) as pool:
        first, second = pool.slots
        first.models, first.taken = ("a",), 1

        await pool.render(Job(plain_graph(), model="a").task())

        assert second.models == ("a",)
        first.taken = 0


async def test_a_job_goes_where_it_fits_even_if_it_waits_and_anywhere_if_it_fits_nowhere(
    two: list[EngineSettings], sampler_graph: Build, plain_graph: Build, play: Play, until: Until
) -> None:
    class Told(PoolEstimates):
        def fits(self, slot: EngineSlot, task: RenderTask) -> bool:
            return slot.number == 2 and task.model == "large"

    async with all_ready(EnginePool(two, estimates=Told()), until) as pool:
        first, second = pool.slots
        await pool.render(Job(plain_graph(1), model="large").task())
        await pool.render(Job(plain_graph(2), model="too large").task())
        assert (first.models, second.models) == (("too large",), ("large",))

        second.taken = PLACES_PER_SLOT
        waiting = asyncio.ensure_future(pool.render(Job(plain_graph(3), model="large").task()))
        await until(lambda: pool._waiting)
        second.taken = 1
        pool._give_back(second)
        await waiting
        assert first.models == ("too large",)


async def test_nothing_goes_to_a_slot_that_is_not_ready(
    two: list[EngineSettings], plain_graph: Build, until: Until
) -> None:
    async with all_ready(EnginePool(two), until) as pool:
        first, second = pool.slots
        first.restart(EngineDied("…"))

        await pool.render(Job(plain_graph(), model="a").task())

        assert second.models == ("a",)


async def test_when_no_engine_starts_the_owner_gets_the_log(two: list[EngineSettings], play: Play) -> None:
    play(faults=(Fault(FaultKind.START_FAILURE, times=None),))

    async with EnginePool(two).running() as pool:
        with pytest.raises(EngineStartFailed, match="Found no NVIDIA driver") as caught:
            await pool.ready()

    assert str(two[0].log_file) in caught.value.remedy


async def test_an_engine_that_is_killed_in_its_first_start_is_started_again(
    settings: EngineSettings, play: Play, until: Until
) -> None:
    play(start_seconds=FOR_EVER_S)
    async with EnginePool([settings]).running() as pool:
        ready = asyncio.ensure_future(pool.ready())
        [slot] = pool.slots
        await until(lambda: slot.process and slot.process.pid)
        play()

        psutil.Process(pid_of(slot)).kill()

        assert (await ready).restarts == 1


async def test_where_there_is_no_comfyui_no_second_start_is_tried(settings: EngineSettings, tmp_path: Path) -> None:
    async with EnginePool([replace(settings, comfyui=tmp_path / "nowhere")]).running() as pool:
        with pytest.raises(EngineStartFailed, match="no ComfyUI in"):
            await pool.ready()
        assert pool.slots[0].restarts == 1


async def test_one_engine_that_starts_is_enough(two: list[EngineSettings], play: Play) -> None:
    play(faults=(Fault(FaultKind.START_FAILURE),))

    async with EnginePool(two).running() as pool:
        assert (await pool.ready()).state is SlotState.READY


async def test_the_end_of_the_pool_is_the_end_of_its_engines_and_of_a_failing_body(
    two: list[EngineSettings], until: Until
) -> None:
    pids: list[int] = []
    pool = EnginePool(two)
    with pytest.raises(LookupError, match="the body's own"):
        async with all_ready(pool, until):
            pids = [pid_of(slot) for slot in pool.slots]
            raise LookupError("the body's own")

    assert [slot.state for slot in pool.slots] == [SlotState.STOPPED] * 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_card_that_other_programs_fill_gets_no_jobs_until_they_are_gone(
    two: list[EngineSettings], until: Until, monkeypatch: pytest.MonkeyPatch, play: Play, plain_graph: Build
) -> None:
    gib = 1024**3
    free = {"cuda:0": 1, "cuda:1": 7}

    async def stats(client: EngineClient) -> dict[str, Any]:
        # An engine that is being made is asked for its version before its slot knows its client.
        device = next((slot.settings.device for slot in pool.slots if slot._client is client), "cuda:1")
        card = {"type": "cuda", "vram_total": 8 * gib, "vram_free": free[device] * gib}
        return {"devices": [{**card, "torch_vram_total": 0, "torch_vram_free": 0}]}

    monkeypatch.setattr(EngineClient, "system_stats", stats)
    pool = EnginePool([replace(each, device=f"cuda:{number}") for number, each in enumerate(two)], card_check_s=0.02)
    async with all_ready(pool, until):
        await until(lambda: pool.shortages)
        assert [slot.settings.device for slot in pool.offered_slots] == ["cuda:1"]
        assert pool.shortages == {"cuda:0": "other programs hold 6.5 of its 8.0 GiB"}
        first, second = pool.slots
        for model in "abc":
            assert len(await pool.render(Job(plain_graph(), model=model).task())) == 1
        assert (first.models, second.models) == ((), ("c",))

        # What was popped before is done all the same.
        second.restart(EngineDied("…"))
        assert len(await pool.render(Job(plain_graph(), model="d").task())) == 1
        assert first.models == ("d",)

        await until_ready(pool, until)
        second.taken = PLACES_PER_SLOT
        waiting = asyncio.ensure_future(pool.render(Job(plain_graph(), model="e").task()))
        await until(lambda: pool._waiting)
        free["cuda:0"] = 7
        await until(waiting.done)
        assert first.models == ("e",)
        assert len(pool.offered_slots) == 2


async def test_no_job_is_asked_for_an_engine_that_has_outgrown_its_memory_and_takes_none(
    settings: EngineSettings, until: Until
) -> None:
    async with all_ready(EnginePool([settings]), until) as pool:
        (slot,) = pool.slots
        assert pool.offered_slots == [slot]
        slot.grown = True
        assert pool.offered_slots == []
