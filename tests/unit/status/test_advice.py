"""Why no jobs come, and what would have earned more."""

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from tests.unit.status.rig import REQUEST, Clock
from worker.config.live import LiveConfig
from worker.config.rules import settle
from worker.config.schema import BridgeData
from worker.errors import HordeUnreachable
from worker.horde.arrivals import LONGEST_GAP_S, MOST_KINDS, Arrivals, Rate
from worker.horde.demand import Demand, ModelNeed
from worker.horde.messages import HordePerformance, ModelDemand, PopResponse
from worker.jobs.job import PopEvent
from worker.status.advice.advisor import Advisor
from worker.status.advice.earnings import SWITCHES, Facts, advise
from worker.status.advice.predictions import MARKS
from worker.status.snapshot import AdviceView, JobRecord, Outcome

CLOSED = BridgeData(
    allow_lora=False, allow_controlnet=False, allow_img2img=False, allow_painting=False, allow_post_processing=False,
    nsfw=False, allow_unsafe_ip=False, max_power=8, limit_max_steps=True, require_upfront_kudos=True,
    blacklist=("rain",),
)  # fmt: skip


def job(**fields: Any) -> JobRecord:
    values: dict[str, Any] = {
        "id": "1", "model": "Deliberate", "kind": "txt2img", "features": (), "width": 512, "height": 512, "steps": 20,
        "images": 1, "delivered": 1, "kudos": 10.0, "outcome": Outcome.DONE, "popped_at": 1e12, "ended_at": 1e12,
    }  # fmt: skip
    return JobRecord(**(values | fields))


def test_what_waits_more_than_before_has_come_in_between() -> None:
    arrivals = Arrivals(least_watched_s=600)
    for now, waiting in ((0, 4), (60, 7), (120, 2), (180, 3)):
        arrivals.note(now, {"lora": waiting})
    # 3 and 1 came in three minutes that count as ten; 3 wait.
    rate = arrivals.rates(180)["lora"]
    assert (rate.waiting, rate.per_hour) == (3, pytest.approx(3 + 4 * 6))


def test_a_queue_that_stands_still_is_not_taken_for_arrivals() -> None:
    arrivals = Arrivals()
    for now in range(0, 3600, 30):
        arrivals.note(now, {"lora": 5})
    assert arrivals.rates(3600)["lora"] == Rate(5, 5)


def test_looks_far_apart_say_nothing_and_old_ones_are_forgotten() -> None:
    arrivals = Arrivals()
    arrivals.note(0, {"lora": 1})
    arrivals.note(LONGEST_GAP_S + 1, {"lora": 9})
    assert arrivals.watched_s == 0
    arrivals.note(LONGEST_GAP_S + 31, {"lora": 12})
    assert arrivals.rates(8000) == {}


def test_kinds_without_end_are_bounded_by_the_largest() -> None:
    arrivals = Arrivals()
    arrivals.note(0, {str(number): number for number in range(5 * MOST_KINDS)})
    assert len(arrivals.rates(1)) == MOST_KINDS


def test_every_switch_is_a_key_and_its_value_is_allowed() -> None:
    for reason, switch in SWITCHES.items():
        value = switch.value(CLOSED)
        assert value != getattr(CLOSED, switch.key), reason
        BridgeData.model_validate({switch.key: value})
    assert {switch.key for switch in SWITCHES.values()} > MARKS.keys()


def _followed(advice: AdviceView) -> BridgeData:
    """The settings of an owner who writes what a remedy says, with the rules applied to them."""
    values = {name: getattr(CLOSED, name) for name in CLOSED.model_fields_set}
    said = {key: yaml.safe_load(value) for key, value in re.findall(r"`(\w+): (\w+)`", advice.remedy)}
    return settle(BridgeData.model_validate({**values, **(said or {advice.key: ()})}))[0]


@pytest.mark.parametrize("reason", [*SWITCHES])
def test_who_does_what_a_remedy_says_gets_what_it_promises(reason: str) -> None:
    """ControlNet and inpainting need allow_img2img: alone they are taken back by the rules of the settings."""
    [advice] = advise(Facts(CLOSED, {reason: Rate(9, 9.0)}))
    switch = SWITCHES[reason]
    assert getattr(_followed(advice), switch.key) == switch.value(CLOSED), advice.remedy


def test_what_is_on_already_is_not_asked_for_beside_a_switch() -> None:
    [advice] = advise(Facts(CLOSED.model_copy(update={"allow_img2img": True}), {"controlnet": Rate(9, 9.0)}))
    assert advice.remedy == "Set `allow_controlnet: true`."


def test_a_step_of_max_power_says_that_nobody_knows_how_many_it_brings() -> None:
    [advice] = advise(Facts(CLOSED, {"max_pixels": Rate(9, 9.0)}))
    assert "how large, the Horde does not tell" in advice.sentence


def test_each_reason_that_a_setting_ends_becomes_a_sentence_the_best_first() -> None:
    found = advise(Facts(CLOSED, {"lora": Rate(3, 37.0), "img2img": Rate(1, 50.0), "worker_id": Rate(9, 99.0)}))
    assert [advice.topic for advice in found] == ["img2img", "lora"]
    assert found[1].sentence == "37 jobs an hour asked for LoRAs, and this worker does not take them."
    assert found[1].remedy == "Set `allow_lora: true`."
    assert "estimate" in found[1].basis
    assert found[1].kudos_per_hour is None, "no job was paid yet"


def test_idle_time_bounds_what_more_jobs_could_bring() -> None:
    facts = Facts(CLOSED, {"lora": Rate(500, 500.0)}, idle=0.25, job_s=9.0, job_kudos=12.0)
    [advice] = advise(facts)
    assert advice.jobs_per_hour == pytest.approx(100)
    assert advice.kudos_per_hour == pytest.approx(1200)


def test_larger_pictures_are_not_advised_where_they_were_learned_not_to_fit() -> None:
    facts = Facts(CLOSED, {"max_pixels": Rate(9, 9.0)})
    assert [advice.value for advice in advise(facts)] == ["18"]
    assert advise(replace(facts, most_pixels=lambda wanted: min(wanted, 512 * 512))) == ()


def test_requests_for_other_models_are_not_promised_to_a_switch() -> None:
    reasons = {"lora": Rate(50, 50.0), "models": Rate(90, 90.0)}
    [advice] = advise(Facts(CLOSED, reasons, queued=100))
    assert advice.jobs_per_hour == pytest.approx(5)


@pytest.mark.parametrize("key", ["lora", "allow_lora"])
def test_what_is_allowed_already_and_not_offered_for_another_reason_is_no_advice(key: str) -> None:
    assert advise(Facts(CLOSED, {"lora": Rate(9, 9.0)}, not_offered={key: "no room for LoRAs"})) == ()
    assert advise(Facts(BridgeData(allow_lora=True), {"lora": Rate(9, 9.0)})) == ()


def test_models_that_are_asked_for_are_named_with_their_share_and_their_size() -> None:
    needs = {
        "Busy": ModelNeed("Busy", Rate(60, 120.0), served_by=3),
        "Own": ModelNeed("Own", Rate(60, 900.0), served_by=1),
        "Unknown": ModelNeed("Unknown", Rate(60, 900.0), served_by=0),
    }
    facts = Facts(CLOSED, models=needs, own_models=frozenset({"Own"}), size_of={"Busy": 7 * 10**9, "Own": 1}.get)
    [advice] = advise(facts)
    assert (advice.value, advice.jobs_per_hour, advice.disk_bytes) == ("Busy", 30, 7 * 10**9)
    assert advice.memory_bytes == 7 * 10**9
    assert advise(replace(facts, memory=6 * 10**9)) == (), "a machine that its weights do not fit into"
    assert "3 workers serve" in advice.sentence


class Horde:
    """The Horde's queue as a test says."""

    def __init__(self) -> None:
        self.entries = [ModelDemand(name="Busy\x1b[2J", count=1, jobs=8, eta=60), ModelDemand()]
        self.fails = False
        self.looks = 0

    async def model_demand(self) -> list[ModelDemand]:
        self.looks += 1
        if self.fails:
            raise HordeUnreachable("The Horde is not there.")
        return self.entries

    async def performance(self) -> HordePerformance:
        return HordePerformance(queued_requests=40)


def advisor(horde: Any, clock: Clock, config: BridgeData = CLOSED, *, idle: float = 1.0) -> tuple[Advisor, LiveConfig]:
    live = LiveConfig(config)

    def facts() -> Facts:
        own = frozenset({"Own"})
        return Facts(live.data, own_models=own, idle=idle, job_s=5.0, job_kudos=10.0, size_of=lambda _: 0)

    demand = horde if isinstance(horde, Demand) else Demand(horde, clock=clock)
    made = Advisor(live, demand, facts=facts, clock=clock, wall=clock.wall)
    return made, live


def passes_by(advisor: Advisor, clock: Clock, seconds: int = 60, **skipped: Any) -> None:
    for _ in range(0, seconds, 5):
        answer = PopResponse(skipped=skipped)
        advisor.note(PopEvent(REQUEST, answer, None, took_s=0.1))
        clock.now += 5


def test_a_worker_that_is_busy_gets_no_advice() -> None:
    clock = Clock()
    busy, _ = advisor(Horde(), clock, idle=0.01)
    passes_by(busy, clock, lora=20)
    assert busy.advice() == ()


def test_odd_counts_of_the_horde_are_left_out() -> None:
    clock = Clock()
    idle, _ = advisor(Horde(), clock)
    passes_by(idle, clock, lora="many", img2img=-3, nsfw=None, new_reason=7, painting=2, controlnet=10**30)
    assert {advice.topic for advice in idle.advice()} == {"painting", "controlnet"}


async def test_the_demand_for_models_is_looked_up_and_a_horde_that_is_gone_changes_nothing() -> None:
    clock, horde = Clock(), Horde()
    demand = Demand(horde, every_s=0.001, clock=clock)
    idle, _ = advisor(demand, clock)
    task = asyncio.ensure_future(demand.run())
    try:
        passes_by(idle, clock, models=3)
        while horde.looks < 3:
            await asyncio.sleep(0.001)
        horde.fails = True
        while horde.looks < 6:
            await asyncio.sleep(0.001)
        [advice] = idle.advice()
    finally:
        task.cancel()
    assert advice.key == "models_to_load"
    assert "\x1b" not in advice.sentence


def test_what_was_predicted_is_held_against_what_came() -> None:
    clock = Clock()
    idle, live = advisor(Horde(), clock)
    passes_by(idle, clock, lora=8, max_pixels=3)
    assert [advice.topic for advice in idle.advice()] == ["lora", "max_pixels"]
    live.change(CLOSED.model_copy(update={"allow_lora": True, "max_power": 32}))
    for record in (job(features=("lora",)), job(features=("lora",), outcome=Outcome.FAULTED), job(), job(width=1024)):
        idle.ended(record)
    clock.now += 1800
    larger, lora = sorted(idle.predictions(), key=lambda each: each.topic, reverse=True)
    assert (lora.came, lora.predicted_per_hour) == (1, 8)
    assert larger.came == 1
    assert lora.sentence == ("allow_lora was changed 30 min ago: up to 8 jobs an hour were predicted, 1 came.")


def test_what_passed_by_before_a_setting_was_raised_is_no_reason_to_raise_it_again() -> None:
    """Followed advice was repeated at once with the next step, for an hour, though nothing larger was asked for."""
    clock = Clock()
    idle, live = advisor(Horde(), clock)
    for waiting in range(1, 20):
        passes_by(idle, clock, 5, max_pixels=waiting, img2img=waiting)
    assert {advice.topic: advice.value for advice in idle.advice()} == {"max_pixels": "18", "img2img": "true"}
    live.change(CLOSED.model_copy(update={"max_power": 18}))
    passes_by(idle, clock, 20, img2img=19)
    assert [advice.topic for advice in idle.advice()] == ["img2img"]
    for waiting in range(1, 20):
        passes_by(idle, clock, 5, max_pixels=waiting)
    assert "32" in [advice.value for advice in idle.advice()]


def test_a_change_that_is_taken_back_is_followed_no_longer() -> None:
    clock = Clock()
    idle, live = advisor(Horde(), clock)
    passes_by(idle, clock, lora=8)
    assert idle.advice()
    live.change(CLOSED.model_copy(update={"allow_lora": True}))
    assert [each.topic for each in idle.predictions()] == ["lora"]
    live.change(CLOSED)
    assert idle.predictions() == ()
