"""What waits for each model, from answers as they come."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.clock import ManualClock
from worker.errors import HordeError, HordeUnreachable
from worker.horde.arrivals import LONGEST_GAP_S
from worker.horde.demand import LARGEST, MOST_MODELS, Asked, Demand
from worker.horde.messages import HordePerformance, ModelDemand


class Horde:
    """What a test says."""

    def __init__(self) -> None:
        self.entries: list[ModelDemand] | None = []
        self.looks = 0

    async def model_demand(self) -> list[ModelDemand]:
        self.looks += 1
        if self.entries is None:
            raise HordeUnreachable("The Horde is not there.")
        return self.entries

    async def performance(self) -> HordePerformance:
        raise HordeUnreachable("This one alone fails.")


def waits(**jobs: float) -> list[ModelDemand]:
    return [ModelDemand(name=name, jobs=count, count=2) for name, count in jobs.items()]


@pytest.mark.parametrize("garbled", [b"<html>", b'{"models": []}', b"[1, null]", b'[{"name": "a", "jobs": "many"}]'])
async def test_an_answer_that_is_no_list_of_models_is_no_empty_demand(connect: Any, garbled: bytes) -> None:
    client, _ = connect(*[httpx.Response(200, content=garbled)] * 5)
    with pytest.raises(HordeError):
        await client.model_demand()


async def test_entries_that_make_no_sense_are_left_out_of_the_others(connect: Any) -> None:
    client, _ = connect(
        [{"name": "a", "jobs": 3, "count": 1}, {"name": "b", "jobs": "NaN"}, 7, {"name": "c", "jobs": None}]
    )
    assert [each.name for each in await client.model_demand()] == ["a", "c"]


async def test_what_waits_for_the_models_is_known_though_the_queue_as_a_whole_is_not() -> None:
    horde, clock = Horde(), ManualClock(500.0)
    demand = Demand(horde, clock=clock)
    horde.entries = waits(a=3)
    with pytest.raises(HordeUnreachable):
        await demand.look()
    assert demand.asked() == {"a": Asked(3.0, 2.0, 3.0)}
    assert (demand.is_fresh, demand.trouble, demand.queued) == (True, "", None)


async def look(demand: Demand) -> None:
    with pytest.raises(HordeUnreachable):
        await demand.look()


async def test_of_two_looks_the_smaller_figure_counts_and_one_of_long_ago_does_not() -> None:
    horde, clock = Horde(), ManualClock(500.0)
    demand = Demand(horde, clock=clock)
    horde.entries = waits(a=9)
    await look(demand)
    clock.advance(60.0)
    horde.entries = waits(a=2, b=5)
    await look(demand)
    assert {name: asked.lasting for name, asked in demand.asked().items()} == {"a": 2.0, "b": 0.0}
    clock.advance(LONGEST_GAP_S + 1)
    assert not demand.is_fresh
    await look(demand)
    assert {name: asked.lasting for name, asked in demand.asked().items()} == {"a": 2.0, "b": 5.0}


async def test_figures_are_bounded_and_a_flood_of_models_leaves_the_busiest() -> None:
    horde = Horde()
    demand = Demand(horde, clock=ManualClock(500.0))
    horde.entries = [ModelDemand(name=f"m{number}", jobs=number) for number in range(3 * MOST_MODELS)]
    horde.entries += [ModelDemand(name="huge", jobs=1e300, count=-4), ModelDemand(name="x" * 300, jobs=1e9)]
    await look(demand)
    assert len(demand.asked()) <= MOST_MODELS
    assert demand.asked()["huge"] == Asked(LARGEST, 0.0, LARGEST)
    assert "m0" not in demand.asked()


async def test_of_a_model_that_stands_there_twice_the_larger_figure_counts() -> None:
    horde = Horde()
    demand = Demand(horde, clock=ManualClock(500.0))
    horde.entries = [*waits(a=3), *waits(a=9), *waits(a=1)]
    await look(demand)
    assert demand.asked()["a"].jobs == 9.0


async def test_the_horde_is_asked_once_for_everybody_and_only_while_somebody_wants_it() -> None:
    horde, wants = Horde(), [False, False]
    demand = Demand(horde, every_s=0.001)
    demand.wanted_when(lambda: wants[0])
    demand.wanted_when(lambda: wants[1])
    running = asyncio.ensure_future(demand.run())
    try:
        await asyncio.sleep(0.02)
        assert horde.looks == 0
        wants[1] = True
        while horde.looks < 2:
            await asyncio.sleep(0.001)
        horde.entries = None
        while not demand.trouble:
            await asyncio.sleep(0.001)
    finally:
        running.cancel()
