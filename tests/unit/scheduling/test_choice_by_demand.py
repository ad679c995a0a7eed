"""The running choice of models: what it reads, keeps, tells and explains."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from loguru import logger

from tests.clock import ManualClock
from worker.config.schema import BridgeData
from worker.errors import HordeError, HordeUnreachable
from worker.horde.demand import Demand
from worker.horde.messages import HordePerformance, ModelDemand, PopResponse
from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling.choice_by_demand import NAMED, NOT_FOR_US, ChoiceByDemand
from worker.scheduling.demand_policy import ChoiceTimes

TIMES = ChoiceTimes()
HERE = ("Own", "A", "B", "C")


class Stand:
    """A choice among doubles; `asked` is what the Horde says next: model → jobs."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock(10_000.0)
        self.config = BridgeData.model_validate({"dynamic_models": True, **config})
        self.asked: dict[str, float] | None = {}
        self.threads = self.in_vain_s = 0.0
        self.absent: list[str] = []
        self.fetched: list[str] = []
        self.models: Any = SimpleNamespace(
            named=lambda: {"Own", "not here"}, fetchable=lambda: tuple(self.absent), fetch=self.fetched.append
        )
        self.demand = Demand(self, clock=self.clock)
        self.choice = ChoiceByDemand(
            lambda: self.config, self.demand, models=self.models, threads=lambda: 1,
            in_vain_s=lambda: self.in_vain_s, clock=self.clock,
        )  # fmt: skip

    async def model_demand(self) -> list[ModelDemand]:
        if self.asked is None:
            raise HordeUnreachable("The Horde is not there.")
        return [ModelDemand(name=name, jobs=jobs, count=self.threads) for name, jobs in self.asked.items()]

    async def performance(self) -> HordePerformance:
        return HordePerformance(queued_requests=0)

    async def look(self, after_s: float = 60.0, **asked: float) -> tuple[str, ...]:
        """What is offered after a look at this demand."""
        self.clock.advance(after_s)
        if self.asked is not None:
            self.asked = asked
        try:
            await self.demand.look()
        except HordeError:
            assert self.asked is None
        return self.choice.offered(HERE)

    def brings(self, model: str) -> None:
        self.choice.note(JobEvent(Job(PopResponse(id="j", model=model), popped_at=0.0), Stage.POPPED))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged about the choice, as action: text."""
    found: list[str] = []
    sink = logger.add(
        lambda message: found.append(f"{message.record['extra'].get('action')}: {message.record['message']}"),
        level="INFO",
    )
    yield found
    logger.remove(sink)


def test_without_the_key_and_with_no_places_everything_is_offered() -> None:
    for config in ({"dynamic_models": False}, {"number_of_dynamic_models": 0}):
        stand = Stand(**config)
        assert stand.choice.offered(HERE) == HERE
        assert stand.choice.sentence == ""
        assert not stand.choice.withheld_because


async def test_named_models_are_always_offered_and_demand_chooses_among_the_others() -> None:
    stand = Stand()
    assert stand.choice.offered(HERE) == ("Own", "A")
    assert "was not asked yet" in stand.choice.sentence
    assert await stand.look(B=8) == ("Own", "B")
    assert stand.choice.offered_because == {"Own": NAMED, "B": "chosen by demand: 8 jobs wait, 0 threads of others"}
    assert stand.choice.withheld_because["A"] == "not asked for now: 0 jobs wait, 0 threads of others"
    assert stand.choice.sentence == "1 of 3 models are chosen by demand, as it was 0 s ago."


async def test_a_shifting_demand_is_followed_with_one_line_for_each_change(lines: list[str]) -> None:
    stand = Stand()
    stand.choice.offered(HERE)
    offered = [await stand.look(A=5) for _ in range(20)] + [await stand.look(C=5) for _ in range(30)]
    assert offered[0] == ("Own", "A")
    assert offered[-1] == ("Own", "C")
    changes = [line for line in lines if line.startswith("choice_")]
    assert changes == [
        "choice_on: Choice by demand: 1 of 3 models offered at a time, first A, and 1 named by you always.",
        "choice_changed: Choice by demand: C (chosen by demand: 5 jobs wait, 0 threads of others) in place of A.",
    ]


async def test_what_waits_at_one_look_alone_does_not_replace_what_is_useful() -> None:
    stand = Stand()
    await stand.look(A=5)
    for number in range(40):
        assert await stand.look(**({"A": 5, "B": 50} if number % 2 else {"A": 5})) == ("Own", "A")


async def test_a_model_that_keeps_the_worker_busy_stays_though_nothing_waits_for_it() -> None:
    stand = Stand()
    await stand.look(A=5)
    for _ in range(30):
        stand.brings("A")
        stand.brings("A")
        assert await stand.look(B=1) == ("Own", "A")


async def test_a_horde_that_does_not_tell_leaves_the_choice_as_it_is_and_that_is_said_once(lines: list[str]) -> None:
    stand = Stand()
    await stand.look(B=5)
    stand.asked = None
    for _ in range(60):
        assert await stand.look() == ("Own", "B")
    assert stand.choice.sentence == (
        "1 of 3 models are chosen by demand; what is asked for is not known for 60 min (The Horde is not there), "
        "so the choice stays."
    )
    stand.asked = {}
    await stand.look(B=5)
    assert [line.partition(":")[0] for line in lines] == ["choice_on", "demand_unknown", "demand_known"]


async def test_old_figures_change_nothing() -> None:
    stand = Stand()
    await stand.look(A=5, B=1)
    await stand.look(A=0, B=9)
    stand.clock.advance(10 * TIMES.stay_s)
    assert stand.choice.offered(HERE) == ("Own", "A")


async def test_a_model_whose_jobs_are_not_for_this_worker_gives_its_place_to_one_whose_may_be() -> None:
    stand = Stand()
    await stand.look(A=50, B=3)
    stand.in_vain_s = TIMES.in_vain_s
    assert await stand.look(60, A=50, B=3) == ("Own", "A"), "it was not offered long enough to say so"
    assert await stand.look(60, A=50, B=3) == ("Own", "B")
    assert stand.choice.withheld_because["A"] == NOT_FOR_US
    stand.in_vain_s = 0.0
    for _ in range(20):
        stand.brings("B")
        assert await stand.look(A=50, B=3) == ("Own", "B"), "not taken again before its time"


async def test_the_threads_of_this_worker_do_not_count_against_what_it_serves() -> None:
    stand = Stand()
    stand.threads = 1
    await stand.look(A=4)
    assert stand.choice.offered_because["A"] == "chosen by demand: 4 jobs wait, 0 threads of others"


async def test_it_is_switched_on_and_off_while_the_worker_runs(lines: list[str]) -> None:
    stand = Stand(dynamic_models=False)
    assert stand.choice.offered(HERE) == HERE
    stand.config = BridgeData(dynamic_models=True, number_of_dynamic_models=2)
    assert await stand.look(B=5, C=5) == ("Own", "B", "C")
    stand.config = BridgeData(dynamic_models=True, number_of_dynamic_models=1)
    assert await stand.look(B=5, C=5) == ("Own", "B")
    stand.config = BridgeData()
    assert stand.choice.offered(HERE) == HERE
    assert lines[-1] == "choice_off: Choice by demand is off: every model here is offered."


async def test_figures_that_make_no_sense_and_unknown_models_choose_nothing() -> None:
    stand = Stand()
    await stand.look(A=3)
    odd = {"B": -1e308, "C": -5.0, "": 9.0, "x" * 10_000: 9.0, "nobody's": 1e308, "\x1b[2J": 5.0}
    for _ in range(30):
        assert await stand.look(**odd) == ("Own", "A")
    await stand.look(B=1e308)
    assert await stand.look(B=1e308) == ("Own", "B")
    assert "1000000 jobs" in stand.choice.offered_because["B"]


async def test_names_are_shown_without_what_a_terminal_would_obey(lines: list[str]) -> None:
    stand = Stand()
    stand.choice.offered(("A", "evil\x1b[2J"))
    await stand.look(**{"evil\x1b[2J": 5})
    assert stand.choice.offered(("A", "evil\x1b[2J")) == ("evil\x1b[2J",)
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("here", [(), ("Own",)])
async def test_with_no_model_here_or_only_named_ones_there_is_nothing_to_choose(here: tuple[str, ...]) -> None:
    stand = Stand()
    await stand.look(A=5)
    assert stand.choice.offered(here) == here
    if here:
        assert stand.choice.sentence.startswith("Demand has no model to choose among, all are named by you")


async def test_a_clock_that_goes_back_neither_frees_nor_freezes_a_place() -> None:
    stand = Stand()
    await stand.look(A=5)
    stand.clock.advance(-5_000.0)
    offered = [await stand.look(B=9) for _ in range(30)]
    assert offered[0] == ("Own", "A")
    assert offered[-1] == ("Own", "B")


async def test_a_model_that_is_not_here_is_fetched_once_it_was_asked_for_long_enough(lines: list[str]) -> None:
    stand = Stand()
    stand.absent = ["far", "farther"]
    minutes = 0
    while not stand.fetched:
        await stand.look(A=2, far=6, farther=9)
        minutes += 1
        assert minutes < 60
    assert stand.fetched == ["farther"]
    assert minutes * 60 >= TIMES.fetch_after_s
    assert lines[-1] == "fetch_by_demand: Choice by demand: farther is fetched, 9 jobs wait for it for 15 min."
    stand.absent = []
    await stand.look(A=2, far=6, farther=9)
    assert stand.fetched == ["farther"], "one at a time"


async def test_a_model_is_fetched_though_there_is_none_here_to_choose() -> None:
    """The first of the list can't be had, and the worker serves what its owner named."""
    for here in (("Own",), ()):
        stand = Stand()
        stand.absent = ["far"]
        for _ in range(2 + int(TIMES.fetch_after_s / 60)):
            stand.asked = {"far": 9}
            stand.clock.advance(60.0)
            await stand.demand.look()
            stand.choice.offered(here)
        assert stand.fetched[:1] == ["far"]


async def test_what_was_wanted_before_an_outage_begins_anew_after_it() -> None:
    stand = Stand()
    stand.absent = ["far"]
    for _ in range(10):
        await stand.look(A=1, far=9)
    stand.clock.advance(6 * 3600.0)
    assert stand.choice.offered(HERE) == ("Own", "A")
    await stand.look(A=1, far=9)
    assert stand.fetched == []


async def test_a_model_is_not_fetched_for_a_passing_demand_nor_for_no_clear_gain() -> None:
    stand = Stand()
    stand.absent = ["far"]
    for number in range(60):
        await stand.look(A=5, far=90 if number % 10 else 0)
        await stand.look(A=5, far=9)
    assert stand.fetched == []


async def test_the_horde_may_still_count_this_worker_for_a_model_that_it_offers_no_more() -> None:
    stand = Stand()
    stand.threads = 1
    await stand.look(A=0)
    await stand.look(B=5)
    assert stand.choice.withheld_because["A"] == "not asked for now: 0 jobs wait, 0 threads of others"
    for _ in range(3):
        await stand.look(A=0, B=5)
    assert stand.choice.withheld_because["A"] == "not asked for now: 0 jobs wait, 1 thread of others"


async def test_jobs_that_were_done_here_since_the_last_look_are_not_taken_for_those_of_others() -> None:
    stand = Stand()
    await stand.look(A=3)
    stand.asked = None
    stand.clock.advance(TIMES.in_vain_s + 10)
    stand.in_vain_s = TIMES.in_vain_s
    assert stand.choice.offered(HERE) == ("Own", "A")
    assert stand.choice.offered_because["A"] != NOT_FOR_US
