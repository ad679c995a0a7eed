"""What the next pop asks for."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.clock import ManualClock
from worker.config.schema import BridgeData
from worker.engine.events import MemoryNeed
from worker.engine.process import EngineSettings
from worker.engine.render_task import Rendering, RenderTask
from worker.engine.slot import EngineSlot
from worker.engine.stall_detector import Phase
from worker.errors import DeviceLost, EngineDied, ModelBroken, NodeFailed, OutOfMemory
from worker.horde.messages import PopResponse
from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling.device_limits import RotationTimes
from worker.scheduling.estimates import Estimates
from worker.scheduling.estimates.estimates import TRIAL_PIXELS, stall_limits_s
from worker.scheduling.estimates.speed import RETRY_S
from worker.scheduling.offer import PopPlan
from worker.scheduling.planner import Planner
from worker.workflows.payload import read_request
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

FULL = 1024 * 1024
TIMES = RotationTimes()
STORED_S, FRUITLESS_TURN_S = TIMES.stored_s, TIMES.fruitless_turn_s
GIB = 1024**3
SETTINGS = EngineSettings(Path("python"), Path("comfyui"), Path("engine"), Path("log"), models_kept=2)


#: As a monotonic clock reads on a machine that has been up for a while.
STARTED_AT = 10_000.0
#: of planner and estimates alike
CLOCK = ManualClock()


@pytest.fixture(autouse=True)
def clock() -> Callable[[float], None]:
    """Sets the clock."""
    CLOCK.now = STARTED_AT
    return lambda seconds: setattr(CLOCK, "now", STARTED_AT + seconds)


class KnownIdle(Estimates):
    """Estimates whose forecast a test gives."""

    idle: dict[int, float]

    def idle_in_s(self, slots: Collection[int]) -> Mapping[int, float]:
        return {number: self.idle.get(number, 0.0) for number in slots}


@dataclass
class Stand:
    """A planner among doubles, and what they say."""

    config: dict[str, Any] = field(default_factory=dict)
    slots: list[EngineSlot] = field(default_factory=lambda: [EngineSlot(1, SETTINGS)])
    names: tuple[str, ...] = ("a", "b")
    idle: dict[int, float] = field(default_factory=dict)
    #: seconds per megapixelstep, learned from two jobs each
    units: dict[str, float] = field(default_factory=dict)
    roll: float = 0.0

    @property
    def offered_slots(self) -> list[EngineSlot]:
        return self.slots

    def model(self, name: str) -> ServedModel | None:
        return ServedModel(name, Family.STABLE_DIFFUSION_1, {}) if name in self.names else None

    def render(self, name: str, unit_s: float, *, done: bool = True, pixels: int = 512 * 512) -> None:
        """A job of a model is sampled at this pace."""
        model = self.model(name)
        assert model is not None
        job = Job(PopResponse(id="j", model=name), popped_at=0.0)
        side = int(pixels**0.5)
        job.request = read_request({"width": side, "height": side, "ddim_steps": 30}, model=model)
        job.started_at, job.rendered_at = 0.0, 1.0 if done else None
        seconds_per_step = unit_s * side * side / 1e6
        for step in range(1, 31 if done else 4):
            job.sampling.note("sampler", step, step * seconds_per_step)
        self.estimates.note(JobEvent(job, Stage.DELIVERING if done else Stage.FAULTED))

    def planner(self, **more: Any) -> Planner:
        data = BridgeData.model_validate({"max_power": 32, **self.config})
        models = type("Models", (), {"names": lambda _: self.names, "model": lambda _, name: self.model(name)})()
        self.estimates = KnownIdle(lambda: stall_limits_s(data), clock=CLOCK)
        self.estimates.idle = self.idle
        for name, unit_s in self.units.items():
            for _ in range(2):
                self.render(name, unit_s)
        pool: Any = self
        return Planner(lambda: data, models, pool, self.estimates, roll=lambda: self.roll, clock=CLOCK, **more)


def task(model: str = "a", *, pixels: int = FULL, batch: int = 1) -> RenderTask:
    return RenderTask(model, lambda *_: [], {}, 0.0, pixels=pixels, batch=batch)


def event(model: str, stage: Stage) -> JobEvent:
    return JobEvent(Job(PopResponse(id="j", model=model), popped_at=0.0), stage)


def test_with_nothing_known_everything_is_offered_one_image_at_a_time():
    assert Stand(config={"max_batch": 8}).planner().plan() == PopPlan(("a", "b"), FULL, 1, 1)


def test_without_an_engine_or_a_model_nothing_is_asked_for():
    assert Stand(slots=[]).planner().plan() is None
    assert Stand(names=()).planner().plan() is None


def test_the_slowest_model_offered_decides_how_large_a_batch_may_be():
    stand = Stand(config={"max_batch": 8}, units={"a": 0.2, "b": 2.0})
    planner = stand.planner()
    assert planner.plan().amount == 2
    stand.render("b", 0.1)
    assert planner.plan().amount == 8


def test_an_owner_who_allows_batches_is_told_once_why_none_are_asked_for(said):
    stand = Stand(config={"max_batch": 4})
    planner = stand.planner()
    for _ in range(3):
        assert planner.plan().amount == 1
    assert said == [
        "Jobs of 1 instead of 4 images are asked for (max_batch): how fast a is here is not known yet.",
    ]
    stand.render("a", 0.1)
    stand.render("b", 0.1)
    assert planner.plan().amount == 4
    assert len(said) == 1


def test_a_model_too_slow_for_the_size_has_its_turn_with_what_it_can_do_once_the_horde_has_forgotten_more(clock):
    planner = Stand(units={"a": 0.5, "b": 10.0}).planner()
    assert planner.plan() == PopPlan(("a",), FULL, 1, 1)
    clock(FRUITLESS_TURN_S)
    assert planner.plan() == PopPlan(("a", "b"), FULL // 4, 1, 1), "nothing was asked for meanwhile"
    clock(2 * FRUITLESS_TURN_S)
    assert planner.plan() == PopPlan(("a",), FULL, 1, 1)
    clock(3 * FRUITLESS_TURN_S - 1.0)
    assert planner.plan() == PopPlan(("a",), FULL, 1, 1)
    clock(3 * FRUITLESS_TURN_S)
    assert planner.plan() == PopPlan(("a",), FULL // 4, 1, 1), "the Horde may still go by the larger one"
    clock(3 * FRUITLESS_TURN_S + STORED_S)
    assert planner.plan() == PopPlan(("a", "b"), FULL // 4, 1, 1)
    assert planner.withdrawn == {}


def test_a_size_has_its_turn_for_longer_while_it_brings_jobs(clock):
    planner = Stand(units={"a": 0.5, "b": 10.0}).planner()
    assert planner.plan().max_pixels == FULL
    clock(FRUITLESS_TURN_S)
    planner.note(event("a", Stage.POPPED))
    assert planner.plan().max_pixels == FULL
    assert planner.plan(asking=1).max_pixels == FULL, "the answer is still to come"
    assert planner.plan().max_pixels == FULL // 4


def test_a_model_that_can_do_nothing_in_time_is_withdrawn_and_soon_tried_again_with_small_pictures(clock):
    planner = Stand(units={"a": 0.5, "b": 100.0}).planner()
    assert planner.plan().models == ("a",)
    assert "longer than the Horde gives" in planner.withdrawn["b"]
    clock(RETRY_S)
    assert planner.plan().max_pixels == FULL, "a size has its turn for longer"
    assert planner.withdrawn == {}
    clock(FRUITLESS_TURN_S + STORED_S)
    planner.plan()
    clock(FRUITLESS_TURN_S + 2 * STORED_S)
    assert planner.plan() == PopPlan(("a", "b"), TRIAL_PIXELS, 1, 1)


def test_a_model_that_stays_too_slow_is_tried_again_later_and_later_and_one_fast_job_ends_all_caution(clock):
    stand = Stand(names=("a",), units={"a": 100.0})
    planner = stand.planner()
    assert planner.plan() is None
    tried_after = []
    now = 0.0
    for _ in range(6):
        since = now
        while planner.plan() is None:
            now += 10.0
            clock(now)
        tried_after.append(now - since)
        stand.render("a", 100.0, done=False)
        assert planner.plan() is None
    assert tried_after == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    clock(now + 600.0)
    stand.render("a", 0.1)
    clock(now + 600.0 + STORED_S)
    assert planner.plan().max_pixels == FULL


def test_one_job_that_was_slow_by_accident_changes_nothing_where_another_was_fast():
    stand = Stand(units={"a": 0.1})
    planner = stand.planner()
    stand.render("a", 300.0, done=False)
    assert planner.plan() == PopPlan(("a", "b"), FULL, 1, 1)
    assert planner.withdrawn == {}


def test_a_first_job_that_ended_late_makes_the_pictures_of_its_model_smaller_and_touches_no_other():
    stand = Stand()
    planner = stand.planner()
    stand.render("a", 300.0, done=False)
    assert planner.plan() == PopPlan(("b",), FULL, 1, 1)
    assert planner.withdrawn == {}
    CLOCK.advance(FRUITLESS_TURN_S)
    assert planner.plan() == PopPlan(("a", "b"), TRIAL_PIXELS, 1, 1)


def test_slow_models_never_withdraw_one_that_was_not_tried():
    stand = Stand(names=("a", "b", "c"), units={"a": 300.0, "b": 300.0})
    planner = stand.planner()
    assert planner.plan() == PopPlan(("c",), TRIAL_PIXELS, 1, 1)
    assert set(planner.withdrawn) == {"a", "b"}


def test_after_a_job_models_in_memory_of_the_next_free_engine_are_offered_alone_by_stickiness():
    stand = Stand(config={"model_stickiness": 0.5}, slots=[EngineSlot(1, SETTINGS), EngineSlot(2, SETTINGS)])
    stand.idle = {1: 5.0, 2: 1.0}
    stand.slots[0].uses("a")
    stand.slots[1].uses("b")
    planner = stand.planner()
    planner.note(event("a", Stage.POPPED))
    assert planner.plan().models == ("b",)
    assert planner.plan().models == ("a", "b"), "the last pop brought nothing"
    planner.note(event("a", Stage.POPPED))
    assert planner.plan(asking=1).models == ("a",), "a pop for the other engine is under way"
    planner.note(event("a", Stage.POPPED))
    stand.roll = 0.7
    assert planner.plan().models == ("a", "b")


@pytest.mark.parametrize("error", [EngineDied("it died\nlog"), DeviceLost("lost"), ModelBroken("unreadable")])
def test_a_model_that_breaks_engines_is_withdrawn_for_a_while(clock, error):
    stand = Stand()
    planner = stand.planner()
    for _ in range(3):
        assert planner.plan().models == ("a", "b")
        stand.estimates.engine_failed(EngineSlot(1, SETTINGS), task(), error)
    assert planner.plan().models == ("b",)
    assert error.message.splitlines()[0] in planner.withdrawn["a"]
    clock(300.0)
    assert planner.plan().models == ("a", "b")
    assert planner.withdrawn == {}


def test_a_model_that_works_in_between_is_not_withdrawn_and_neither_is_one_whose_graph_fails():
    stand = Stand()
    planner = stand.planner()
    for _ in range(5):
        stand.estimates.engine_failed(EngineSlot(1, SETTINGS), task(), EngineDied("…"))
        stand.estimates.note(event("a", Stage.DELIVERING))
        stand.estimates.engine_failed(EngineSlot(1, SETTINGS), task("b"), NodeFailed("…"))
    assert planner.plan().models == ("a", "b")


def test_a_model_whose_memory_ran_out_is_offered_smaller(clock):
    stand = Stand()
    planner = stand.planner()
    stand.estimates.engine_failed(EngineSlot(1, SETTINGS), task(), OutOfMemory("…"))
    assert planner.plan() == PopPlan(("b",), FULL, 1, 1)
    clock(FRUITLESS_TURN_S)
    assert planner.plan() == PopPlan(("a", "b"), FULL // 2, 1, 1)


@pytest.mark.parametrize("node", ["ImageUpscaleWithModel", "HordeFaceRestore"])
def test_memory_that_ran_out_in_post_processing_says_nothing_of_the_model(node):
    stand = Stand()
    planner = stand.planner()
    stand.estimates.engine_failed(EngineSlot(1, SETTINGS), task(), OutOfMemory("…", node_type=node))
    assert planner.plan() == PopPlan(("a", "b"), FULL, 1, 1)
    stand.estimates.engine_failed(EngineSlot(1, SETTINGS), task(), OutOfMemory("…", node_type="KSampler"))
    assert planner.plan().models == ("b",)


def test_nothing_is_asked_for_while_the_horde_may_go_by_a_size_that_no_model_can_do_any_more(clock):
    stand = Stand(names=("a",))
    planner = stand.planner()
    assert planner.plan() == PopPlan(("a",), FULL, 1, 1)
    stand.estimates.engine_failed(EngineSlot(1, SETTINGS), task(), OutOfMemory("…"))
    assert planner.plan() is None
    clock(STORED_S)
    assert planner.plan() == PopPlan(("a",), FULL // 2, 1, 1)


@pytest.mark.parametrize("batch", [1, 4])
def test_where_memory_ran_out_on_one_card_the_job_still_fits_on_another(clock, batch):
    small, large = (EngineSlot(number, replace(SETTINGS, device=f"cuda:{number}")) for number in (0, 1))
    stand = Stand(slots=[small, large])
    stand.planner()
    stand.estimates.engine_failed(small, task(batch=batch), OutOfMemory("…"))
    assert not stand.estimates.fits(small, task(batch=batch))
    assert stand.estimates.fits(small, task(pixels=FULL // 4))
    assert stand.estimates.fits(large, task(batch=batch))


def test_a_model_whose_memory_ran_out_with_a_batch_gets_smaller_batches(clock):
    stand = Stand(config={"max_batch": 8}, units={"a": 0.1, "b": 0.1})
    planner = stand.planner()
    stand.estimates.engine_failed(EngineSlot(1, SETTINGS), task(batch=4), OutOfMemory("…"))
    assert planner.plan().amount == 3


def test_what_cannot_fit_on_the_next_engines_card_is_not_asked_for_there(clock):
    small, large = (EngineSlot(number, replace(SETTINGS, device=f"cuda:{number}")) for number in (0, 1))
    stand = Stand(config={"max_batch": 8}, names=("a",), slots=[small, large], units={"a": 0.01}, idle={1: 1.0})
    planner = stand.planner()
    assert planner.plan() == PopPlan(("a",), FULL, 8, 2)
    for slot, total in ((small, 4), (large, 64)):
        # 2 GiB for a quarter of the pixels that the owner allows.
        rendering = Rendering({}, (), 1, evaluations=1)
        stand.estimates.memory_taken(slot, task(pixels=FULL // 4), rendering, MemoryNeed(5 * GIB // 2, total * GIB))
    assert planner.plan() == PopPlan(("a",), FULL, 7, 2), "it takes 8 GiB, and 3 are there: this is for the large card"
    clock(FRUITLESS_TURN_S)
    assert planner.plan() == PopPlan(("a",), FULL // 4, 1, 2)
    assert planner.plan(asking=1) == PopPlan(("a",), FULL // 4, 8, 2)
    assert [stand.estimates.fits(slot, task()) for slot in (small, large)] == [False, True]
    assert [stand.estimates.fits(slot, task(batch=8)) for slot in (small, large)] == [False, False]
    assert stand.estimates.fits(small, task(pixels=FULL // 4))
    clock(900.0)
    assert planner.plan() == PopPlan(("a",), FULL, 8, 2)


def test_a_model_of_which_no_size_fits_is_withdrawn_with_the_reason(clock):
    stand = Stand(slots=[EngineSlot(1, SETTINGS)])
    planner = stand.planner()
    stand.estimates.memory_taken(
        EngineSlot(1, SETTINGS), task(pixels=FULL // 256), Rendering({}, (), 1, 1), MemoryNeed(2 * GIB, 4 * GIB)
    )
    assert planner.plan().models == ("b",)
    reason = "a larger picture needs about 384.5 GiB, and the card has 3.5 GiB for it"
    assert planner.withdrawn == {"a": reason}


def test_each_device_is_asked_for_by_its_own_limits_once_the_horde_goes_by_them(clock):
    small = replace(SETTINGS, device="cuda:1", max_pixels=FULL // 4, models=frozenset({"b"}))
    stand = Stand(slots=[EngineSlot(1, replace(SETTINGS, device="cuda:0")), EngineSlot(2, small)], idle={1: 9.0})
    planner = stand.planner()
    assert planner.plan() == PopPlan(("a", "b"), FULL, 1, 2), (
        "the first card is not free yet, and the second can't do it"
    )
    planner.note(event("a", Stage.POPPED))
    clock(FRUITLESS_TURN_S)
    assert planner.plan() == PopPlan(("b",), FULL // 4, 1, 2), "the job was not for the second card"
    assert planner.plan(asking=1) == PopPlan(("a", "b"), FULL // 4, 1, 2)


def test_what_one_card_can_not_do_at_all_is_withdrawn_only_when_no_card_can(clock, said):
    slots = [EngineSlot(number, replace(SETTINGS, device=f"cuda:{number}")) for number in (0, 1)]
    stand = Stand(slots=slots)
    planner = stand.planner()
    stand.estimates.engine_failed(slots[0], task(pixels=256 * 256), OutOfMemory("…"))
    wishes = []
    for turn in range(4):
        stand.estimates.idle = {0: float(turn % 2), 1: float((turn + 1) % 2)}
        wishes.append(planner.plan().models)
    assert wishes == [("b",), ("a", "b")] * 2
    assert planner.withdrawn == {}
    stand.estimates.engine_failed(slots[1], task(pixels=256 * 256), OutOfMemory("…"))
    assert planner.plan().models == planner.plan(asking=1).models == ("b",)
    assert planner.withdrawn == {"a": "the memory ran out at a larger size"}
    assert len(said) == 1


@pytest.mark.parametrize(
    ("config", "lead_s"), [({}, 3), ({"moderate_performance_mode": True}, 6), ({"high_performance_mode": True}, 10)]
)
def test_each_device_has_a_queue_and_the_mode_says_how_early_it_is_filled(config, lead_s):
    two = [EngineSlot(number, replace(SETTINGS, device=f"cuda:{number // 2}")) for number in (0, 1, 2)]
    capacity = Stand(config={"queue_size": 2, **config}, slots=two, idle={0: 4.0, 1: 2.0, 2: 8.0}).planner().capacity()
    assert (capacity.engines, capacity.queue, capacity.idle_in_s, capacity.lead_s) == (3, 4, 2.0, lead_s)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (80, 15, 63)),
        ({"process_timeout": 1200}, (300, 15, 63)),
        ({"extra_slow_worker": True, "max_batch": 4}, (240, 45, 216)),
    ],
)
def test_how_long_an_engine_may_stand_still_is_the_owners_to_say(config, expected):
    limits = stall_limits_s(BridgeData.model_validate(config))
    assert tuple(limits[phase] for phase in (Phase.LOADING, Phase.STEPPING, Phase.FINISHING)) == expected


def test_what_was_chosen_is_offered_and_a_model_withdrawn_has_no_part_in_the_choice():
    asked = []

    def choose(names):
        asked.append(tuple(names))
        return names[:1]

    stand = Stand(names=("a", "b", "c"), units={"a": 100.0})
    planner = stand.planner(choice=choose)
    assert planner.plan().models == ("b",)
    assert asked == [("b", "c")]


def test_a_device_that_can_do_nothing_with_what_was_chosen_is_given_all_it_can_do():
    own = replace(SETTINGS, device="GPU 1", models=frozenset({"c"}))
    planner = Stand(names=("a", "c"), slots=[EngineSlot(1, own)]).planner(choice=lambda _: ["a"])
    assert planner.plan().models == ("c",)
