"""A worker that lets demand choose its models, on the embedded Horde: what it serves, keeps and says."""

import asyncio
from typing import Any

import pytest

from worker.app.run import serve
from worker.app.worker_spec import Tolerance
from worker.config.schema import BridgeData
from worker.demo.horde.faults import Fault, FaultKind, Route
from worker.demo.horde.records import Outcome
from worker.scheduling.demand_policy import ChoiceTimes
from worker.status.snapshot import Snapshot

from .rig import MODEL, OTHER, THIRD, Rig
from .test_advice import looking, until

#: Minutes are fractions of a second here.
HURRIED = Tolerance(
    choice=ChoiceTimes(
        stay_s=1.0, useless_stay_s=0.3, brought_s=0.3, in_vain_s=1.0, passed_over_s=30.0, fetch_after_s=0.5
    ),
    demand_look_every_s=0.1,
)
ONE_OF_THREE = {"dynamic_models": True, "number_of_dynamic_models": 1}


@pytest.fixture
def rig(rig: Rig) -> Rig:
    rig.models.served = (MODEL, OTHER, THIRD)
    rig.tolerance = HURRIED
    rig.config = dict(ONE_OF_THREE)
    rig.play()
    return rig


def states(status: Snapshot) -> dict[str, str]:
    return {model.name: model.state for model in status.models}


async def test_a_shifting_demand_is_followed_and_every_job_is_served(rig: Rig) -> None:
    stop = asyncio.Event()
    with looking(rig.setup()) as (setup, found):
        serving = asyncio.ensure_future(serve(setup, stop))
        served = 0
        for model in (THIRD, OTHER, MODEL, THIRD):
            rig.ask(5, model=model)
            served += 5
            status = await until(found, lambda status, served=served: status.session.total.jobs == served)
            assert states(status)[model] == "served", status.models
            assert sum(state == "served" for state in states(status).values()) == 1
        assert "1 of 3 models are chosen by demand" in status.choice
        withheld = next(model for model in status.models if model.name == MODEL)
        assert "not asked for now" in withheld.reason
        stop.set()
        await serving
    assert set(rig.outcomes()) == {Outcome.OK}


async def test_named_models_are_served_whatever_is_asked_for(rig: Rig) -> None:
    rig.models.pinned = frozenset({MODEL})
    rig.ask(4, model=OTHER)
    ids = rig.ask(2, model=MODEL)
    async with rig.working():
        await rig.done(ids)
        await rig.done(rig.ask(1, model=MODEL))


async def test_a_horde_that_does_not_say_what_is_asked_for_changes_nothing(rig: Rig) -> None:
    rig.horde.faults.inject(Route.STATUS, Fault(FaultKind.STATUS, status=500), times=10_000)
    stop = asyncio.Event()
    with looking(rig.setup()) as (setup, found):
        serving = asyncio.ensure_future(serve(setup, stop))
        rig.ask(3, model=MODEL)
        status = await until(found, lambda status: status.session.total.jobs == 3 and "did not say" in status.choice)
        assert states(status) == {MODEL: "served", OTHER: "withheld", THIRD: "withheld"}
        stop.set()
        await serving


async def test_the_choice_is_switched_on_and_off_while_jobs_are_served(rig: Rig) -> None:
    rig.config = {}
    stop = asyncio.Event()

    def change(**keys: Any) -> None:
        data = {name: getattr(setup.live.data, name) for name in setup.live.data.model_fields_set} | keys
        setup.live.change(BridgeData.model_validate(data))

    with looking(rig.setup()) as (setup, found):
        serving = asyncio.ensure_future(serve(setup, stop))
        status = await until(found, lambda status: len(status.models) == 3)
        assert set(states(status).values()) == {"served"}
        assert status.choice == ""
        change(**ONE_OF_THREE)
        rig.ask(3, model=OTHER)
        await until(found, lambda status: status.session.total.jobs == 3 and states(status)[MODEL] == "withheld")
        change(dynamic_models=False)
        await until(found, lambda status: set(states(status).values()) == {"served"} and status.choice == "")
        stop.set()
        await serving


async def test_a_model_that_is_asked_for_all_the_time_is_fetched_and_served(rig: Rig) -> None:
    rig.models.served, rig.models.absent = (MODEL,), (OTHER, THIRD)
    stop = asyncio.Event()
    with looking(rig.setup()) as (setup, found):
        serving = asyncio.ensure_future(serve(setup, stop))
        status = await until(found, lambda status: "(2 more may be fetched)" in status.choice)
        rig.ask(3, model=THIRD)
        status = await until(found, lambda status: status.session.total.jobs == 3)
        assert states(status) == {MODEL: "withheld", THIRD: "served"}
        stop.set()
        await serving
