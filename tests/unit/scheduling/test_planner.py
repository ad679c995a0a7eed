"""What the next pop asks for."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from worker.config.schema import BridgeData
from worker.engine.events import MemoryNeed
from worker.engine.pool import Rendering, RenderTask
from worker.engine.process import EngineSettings
from worker.engine.slot import EngineSlot
from worker.engine.stall_detector import Phase
from worker.errors import DeviceLost, EngineDied, ModelBroken, NodeFailed, OutOfMemory
from worker.horde.messages import PopResponse
from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling import planner as planner_module
from worker.scheduling.max_pixels_rotation import PATIENCE_S, STORED_S
from worker.scheduling.planner import Planner, Wish, stall_limits_s
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

FULL = 1024 * 1024
GIB = 1024**3
SETTINGS = EngineSettings(Path("python"), Path("comfyui"), Path("engine"), Path("log"), models_kept=2)


@dataclass
class Stand:
    """A planner among doubles, and what they say."""

    config: dict[str, Any] = field(default_factory=dict)
    slots: list[EngineSlot] = field(default_factory=lambda: [EngineSlot(1, SETTINGS)])
    names: tuple[str, ...] = ("a", "b")
    idle: dict[int, float] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)
    roll: float = 0.0

    def __post_init__(self) -> None:
        self.now = 0.0

    @property
    def offered_slots(self) -> list[EngineSlot]:
        return self.slots

    def model(self, name: str) -> ServedModel | None:
        return ServedModel(name, Family.STABLE_DIFFUSION_1, {}) if name in self.names else None

    def idle_in_s(self, slots: Any) -> dict[int, float]:
        return {number: self.idle.get(number, 0.0) for number in slots}

    def unit_s(self, model: ServedModel) -> float | None:
        return self.units.get(model.name)

    def planner(self) -> Planner:
        data = BridgeData.model_validate({"max_power": 32, **self.config})
        models = type("Models", (), {"names": lambda _: self.names, "model": lambda _, name: self.model(name)})()
        return Planner(lambda: data, models, self, self, roll=lambda: self.roll)  # type: ignore[arg-type]


@pytest.fixture
def clock(monkeypatch):
    """The planner's clock, set by calling it."""
    now = [0.0]
    monkeypatch.setattr(planner_module.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def task(model: str = "a", *, pixels: int = FULL, batch: int = 1) -> RenderTask:
    return RenderTask(model, lambda *_: [], {}, 0.0, pixels=pixels, batch=batch)


def event(model: str, stage: Stage) -> JobEvent:
    return JobEvent(Job(PopResponse(id="j", model=model), popped_at=0.0), stage)


def test_with_nothing_known_everything_is_offered_one_image_at_a_time():
    assert Stand(config={"max_batch": 8}).planner().wish() == Wish(("a", "b"), FULL, 1, 1)


def test_without_an_engine_or_a_model_nothing_is_asked_for():
    assert Stand(slots=[]).planner().wish() is None
    assert Stand(names=()).planner().wish() is None


def test_the_slowest_model_offered_decides_how_large_a_batch_may_be():
    stand = Stand(config={"max_batch": 8}, units={"a": 0.2, "b": 2.0})
    assert stand.planner().wish().amount == 2
    stand.units["b"] = 0.1
    assert stand.planner().wish().amount == 8


def test_a_model_too_slow_for_the_size_has_its_turn_with_what_it_can_do_once_the_horde_has_forgotten_more(clock):
    planner = Stand(units={"a": 0.5, "b": 10.0}).planner()
    assert planner.wish() == Wish(("a",), FULL, 1, 1)
    clock(PATIENCE_S)
    assert planner.wish() == Wish(("a", "b"), FULL // 4, 1, 1), "nothing was asked for meanwhile"
    clock(2 * PATIENCE_S)
    assert planner.wish() == Wish(("a",), FULL, 1, 1)
    clock(3 * PATIENCE_S - 1.0)
    assert planner.wish() == Wish(("a",), FULL, 1, 1)
    clock(3 * PATIENCE_S)
    assert planner.wish() == Wish(("a",), FULL // 4, 1, 1), "the Horde may still go by the larger one"
    clock(3 * PATIENCE_S + STORED_S)
    assert planner.wish() == Wish(("a", "b"), FULL // 4, 1, 1)
    assert planner.withdrawn == {}


def test_a_size_has_its_turn_for_longer_while_it_brings_jobs(clock):
    planner = Stand(units={"a": 0.5, "b": 10.0}).planner()
    assert planner.wish().max_pixels == FULL
    clock(PATIENCE_S)
    planner.note(event("a", Stage.POPPED))
    assert planner.wish().max_pixels == FULL
    assert planner.wish(asking=1).max_pixels == FULL, "the answer is still to come"
    assert planner.wish().max_pixels == FULL // 4


def test_a_model_that_can_do_nothing_in_time_is_withdrawn_and_gets_another_chance_each_hour(clock):
    planner = Stand(units={"a": 0.5, "b": 100.0}).planner()
    assert planner.wish().models == ("a",)
    assert "longer than the Horde gives" in planner.withdrawn["b"]
    clock(3600.0)
    assert planner.wish().models == ("a", "b")
    planner.note(event("b", Stage.POPPED))
    assert planner.wish().models == ("a",)


def test_after_a_job_models_in_memory_of_the_next_free_engine_are_offered_alone_by_stickiness():
    stand = Stand(config={"model_stickiness": 0.5}, slots=[EngineSlot(1, SETTINGS), EngineSlot(2, SETTINGS)])
    stand.idle = {1: 5.0, 2: 1.0}
    stand.slots[0].uses("a")
    stand.slots[1].uses("b")
    planner = stand.planner()
    planner.note(event("a", Stage.POPPED))
    assert planner.wish().models == ("b",)
    assert planner.wish().models == ("a", "b"), "the last pop brought nothing"
    planner.note(event("a", Stage.POPPED))
    assert planner.wish(asking=1).models == ("a",), "a pop for the other engine is under way"
    planner.note(event("a", Stage.POPPED))
    stand.roll = 0.7
    assert planner.wish().models == ("a", "b")


@pytest.mark.parametrize("error", [EngineDied("it died\nlog"), DeviceLost("lost"), ModelBroken("unreadable")])
def test_a_model_that_breaks_engines_is_withdrawn_for_a_while(clock, error):
    planner = Stand().planner()
    for _ in range(3):
        assert planner.wish().models == ("a", "b")
        planner.engine_failed(EngineSlot(1, SETTINGS), task(), error)
    assert planner.wish().models == ("b",)
    assert error.message.splitlines()[0] in planner.withdrawn["a"]
    clock(1800.0)
    assert planner.wish().models == ("a", "b")
    assert planner.withdrawn == {}


def test_a_model_that_works_in_between_is_not_withdrawn_and_neither_is_one_whose_graph_fails():
    planner = Stand().planner()
    for _ in range(5):
        planner.engine_failed(EngineSlot(1, SETTINGS), task(), EngineDied("…"))
        planner.note(event("a", Stage.DELIVERING))
        planner.engine_failed(EngineSlot(1, SETTINGS), task("b"), NodeFailed("…"))
    assert planner.wish().models == ("a", "b")


def test_a_model_whose_memory_ran_out_is_offered_smaller(clock):
    planner = Stand().planner()
    planner.engine_failed(EngineSlot(1, SETTINGS), task(), OutOfMemory("…"))
    assert planner.wish() == Wish(("b",), FULL, 1, 1)
    clock(PATIENCE_S)
    assert planner.wish() == Wish(("a", "b"), FULL // 2, 1, 1)


def test_nothing_is_asked_for_while_the_horde_may_go_by_a_size_that_no_model_can_do_any_more(clock):
    planner = Stand(names=("a",)).planner()
    assert planner.wish() == Wish(("a",), FULL, 1, 1)
    planner.engine_failed(EngineSlot(1, SETTINGS), task(), OutOfMemory("…"))
    assert planner.wish() is None
    clock(STORED_S)
    assert planner.wish() == Wish(("a",), FULL // 2, 1, 1)


@pytest.mark.parametrize("batch", [1, 4])
def test_where_memory_ran_out_on_one_card_the_job_still_fits_on_another(clock, batch):
    small, large = (EngineSlot(number, replace(SETTINGS, device=f"cuda:{number}")) for number in (0, 1))
    planner = Stand(slots=[small, large]).planner()
    planner.engine_failed(small, task(batch=batch), OutOfMemory("…"))
    assert not planner.fits(small, task(batch=batch))
    assert planner.fits(small, task(pixels=FULL // 4))
    assert planner.fits(large, task(batch=batch))


def test_a_model_whose_memory_ran_out_with_a_batch_gets_smaller_batches(clock):
    planner = Stand(config={"max_batch": 8}, units={"a": 0.1, "b": 0.1}).planner()
    planner.engine_failed(EngineSlot(1, SETTINGS), task(batch=4), OutOfMemory("…"))
    assert planner.wish().amount == 3


def test_what_cannot_fit_on_the_next_engines_card_is_not_asked_for_there(clock):
    small, large = (EngineSlot(number, replace(SETTINGS, device=f"cuda:{number}")) for number in (0, 1))
    stand = Stand(config={"max_batch": 8}, names=("a",), slots=[small, large], units={"a": 0.01}, idle={1: 1.0})
    planner = stand.planner()
    assert planner.wish() == Wish(("a",), FULL, 8, 2)
    for slot, total in ((small, 4), (large, 64)):
        # 2 GiB for a quarter of the pixels that the owner allows.
        rendering = Rendering({}, (), 1, evaluations=1)
        planner.memory_taken(slot, task(pixels=FULL // 4), rendering, MemoryNeed(5 * GIB // 2, total * GIB))
    assert planner.wish() == Wish(("a",), FULL, 7, 2), "it takes 8 GiB, and 3 are there: this is for the large card"
    clock(PATIENCE_S)
    assert planner.wish() == Wish(("a",), FULL // 4, 1, 2)
    assert planner.wish(asking=1) == Wish(("a",), FULL // 4, 8, 2)
    assert [planner.fits(slot, task()) for slot in (small, large)] == [False, True]
    assert [planner.fits(slot, task(batch=8)) for slot in (small, large)] == [False, False]
    assert planner.fits(small, task(pixels=FULL // 4))
    clock(2 * 3600.0)
    assert planner.wish() == Wish(("a",), FULL, 8, 2)


def test_a_model_of_which_no_size_fits_is_withdrawn_with_the_reason(clock):
    planner = Stand(slots=[EngineSlot(1, SETTINGS)]).planner()
    planner.memory_taken(
        EngineSlot(1, SETTINGS), task(pixels=FULL // 256), Rendering({}, (), 1, 1), MemoryNeed(2 * GIB, 4 * GIB)
    )
    assert planner.wish().models == ("b",)
    reason = "a larger picture needs about 384.5 GiB, and the card has 3.5 GiB for it"
    assert planner.withdrawn == {"a": reason}


def test_each_device_is_asked_for_by_its_own_limits_once_the_horde_goes_by_them(clock):
    small = replace(SETTINGS, device="cuda:1", max_pixels=FULL // 4, models=frozenset({"b"}))
    stand = Stand(slots=[EngineSlot(1, replace(SETTINGS, device="cuda:0")), EngineSlot(2, small)], idle={1: 9.0})
    planner = stand.planner()
    assert planner.wish() == Wish(("a", "b"), FULL, 1, 2), "the first card is not free yet, and the second can't do it"
    planner.note(event("a", Stage.POPPED))
    clock(PATIENCE_S)
    assert planner.wish() == Wish(("b",), FULL // 4, 1, 2), "the job was not for the second card"
    assert planner.wish(asking=1) == Wish(("a", "b"), FULL // 4, 1, 2)


def test_what_one_card_can_not_do_at_all_is_withdrawn_only_when_no_card_can(clock, said):
    slots = [EngineSlot(number, replace(SETTINGS, device=f"cuda:{number}")) for number in (0, 1)]
    stand = Stand(slots=slots)
    planner = stand.planner()
    planner.engine_failed(slots[0], task(pixels=256 * 256), OutOfMemory("…"))
    wishes = []
    for turn in range(4):
        stand.idle = {0: float(turn % 2), 1: float((turn + 1) % 2)}
        wishes.append(planner.wish().models)
    assert wishes == [("b",), ("a", "b")] * 2
    assert planner.withdrawn == {}
    planner.engine_failed(slots[1], task(pixels=256 * 256), OutOfMemory("…"))
    assert planner.wish().models == planner.wish(asking=1).models == ("b",)
    assert planner.withdrawn == {"a": "the memory ran out at a larger size"}
    assert len(said) == 1


@pytest.mark.parametrize(
    ("config", "lead_s"), [({}, 3), ({"moderate_performance_mode": True}, 6), ({"high_performance_mode": True}, 10)]
)
def test_each_device_has_a_queue_and_the_mode_says_how_early_it_is_filled(config, lead_s):
    two = [EngineSlot(number, replace(SETTINGS, device=f"cuda:{number // 2}")) for number in (0, 1, 2)]
    room = Stand(config={"queue_size": 2, **config}, slots=two, idle={0: 4.0, 1: 2.0, 2: 8.0}).planner().room()
    assert (room.engines, room.queue, room.idle_in_s, room.lead_s) == (3, 4, 2.0, lead_s)


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
