"""Settings from made-up measurements of many cards."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import pytest

from worker.benchmark.measurements import STEPS, End, Findings, Measured, Shot, Subject
from worker.benchmark.plan import expected_s, limit_s, native_side, shots
from worker.benchmark.proposals import demands, propose
from worker.benchmark.run import measure
from worker.config.schema import BridgeData
from worker.engine.cards import CardFacts
from worker.errors import EngineStartFailed
from worker.setup.card import MachineFacts
from worker.units import GIB
from worker.workflows.families import TRAITS
from worker.workflows.types import Family

SD15 = Subject("Deliberate", Family("stable_diffusion_1"), ("Deliberate", "Dreamshaper"))
SDXL = Subject("AlbedoBase XL (SDXL)", Family("stable_diffusion_xl"), ("AlbedoBase XL (SDXL)",))
FLUX = Subject("Flux.1-Schnell fp8 (Compact)", Family("flux_1"), ("Flux.1-Schnell fp8 (Compact)",))


@dataclass
class PretendedCard:
    """An engine on a card of some memory and speed, as far as a benchmark sees it."""

    gib: float
    #: megapixelsteps a second with SD1.5
    mps: float
    ram: float = 64
    crashes_at: float = 1e9
    gain_of_two: float = 1.05

    @property
    def machine(self) -> MachineFacts:
        return MachineFacts(CardFacts("a card", int(self.gib * GIB)) if self.gib else None, int(self.ram * GIB))

    def shoot(self, shot: Shot) -> Measured:
        mps = self.mps / TRAITS[shot.family].cost
        megapixels = shot.pixels * shot.batch / 1e6
        weights = {SD15.family: 2.0, SDXL.family: 5.0, FLUX.family: 11.0}[shot.family]
        needed = 1.5 + 1.2 * megapixels
        if self.gib and weights / 2 + needed > self.gib:
            return Measured(shot, End.OUT_OF_MEMORY)
        if megapixels > self.crashes_at:
            return Measured(shot, End.CRASHED, why="it was killed")
        seconds = 0.3 + megapixels * STEPS / mps
        return Measured(shot, End.MADE, seconds, memory=int(needed * GIB))

    def findings(self, *subjects: Subject) -> Findings:
        measured = []
        for subject in subjects:
            done: list[Measured] = []
            for shot in shots(subject, done, most_power=128, most_batch=16):
                done.append(self.shoot(shot))  # noqa: PERF401 - the next shot depends on it
            measured += done
        return Findings(subjects, tuple(measured), {2: self.gain_of_two} if self.gib >= 20 else {})

    def values(self, *subjects: Subject, **before) -> dict[str, Any]:
        found = propose(self.findings(*subjects), self.machine, BridgeData.model_validate(before))
        assert all(each.why and not each.why.endswith(".") for each in found)
        assert len({each.key for each in found}) == len(found)
        values = {each.key: each.value for each in found}
        BridgeData.model_validate({**before, **values})
        return values


LAPTOP = PretendedCard(4, 0.8, ram=16)
EIGHT = PretendedCard(8, 2.0)
TWELVE = PretendedCard(12, 4.0)
TWENTY_FOUR = PretendedCard(24, 9.0)
EIGHTY = PretendedCard(80, 20.0, ram=256, gain_of_two=1.4)
PROCESSOR = PretendedCard(0, 0.05, ram=16)


def test_a_laptop_serves_sd15_alone_and_nothing_ahead():
    values = LAPTOP.values(SD15, SDXL)
    assert values["models_to_skip"][-1] == SDXL.model
    assert values["queue_size"] == 0
    assert 8 <= values["max_power"] <= 32
    assert not values["high_memory_mode"]
    assert not values["safety_on_gpu"]


def test_eight_gigabytes_do_sdxl_in_its_own_size():
    values = EIGHT.values(SD15, SDXL)
    assert "models_to_skip" not in values
    assert values["max_power"] >= 32
    assert not values["extra_slow_worker"]


@pytest.mark.parametrize(
    ("card", "high", "moderate"), [(EIGHT, False, False), (TWELVE, False, True), (TWENTY_FOUR, True, False)]
)
def test_the_modes_follow_the_speed(card, high, moderate):
    values = card.values(SD15)
    assert (values["high_performance_mode"], values["moderate_performance_mode"]) == (high, moderate)


def test_more_memory_never_means_less():
    powers = [card.values(SD15)["max_power"] for card in (LAPTOP, EIGHT, TWELVE, TWENTY_FOUR, EIGHTY)]
    batches = [card.values(SD15)["max_batch"] for card in (LAPTOP, EIGHT, TWELVE, TWENTY_FOUR, EIGHTY)]
    assert powers == sorted(powers)
    assert batches == sorted(batches)


def test_two_jobs_at_a_time_are_proposed_where_two_engines_do_much_more_than_one():
    assert EIGHTY.values(SD15, SDXL, FLUX)["max_threads"] == 2
    assert TWENTY_FOUR.values(SD15)["max_threads"] == 1
    assert EIGHTY.values(SD15)["high_memory_mode"]
    assert not EIGHTY.values(SD15)["unload_models_from_vram_often"]


def test_a_slow_processor_is_an_extra_slow_worker_with_one_job_at_a_time():
    values = PROCESSOR.values(SD15)
    assert values["extra_slow_worker"]
    assert (values["max_batch"], values["max_threads"], values["queue_size"]) == (1, 1, 0)


def test_where_no_model_can_be_served_none_is_left_out_and_that_is_said():
    card = replace(PROCESSOR, mps=0.001)
    (only,) = propose(card.findings(SD15), card.machine, BridgeData())
    assert (only.key, only.value) == ("extra_slow_worker", True)
    assert "no model can be served" in only.why


def test_one_figure_for_all_models_is_the_smallest_of_their_largest():
    card = PretendedCard(12, 0.9)
    both, one = card.values(SD15, SDXL)["max_power"], card.values(SD15)["max_power"]
    assert both <= one


def test_a_crash_bounds_the_size_and_is_named():
    card = PretendedCard(24, 9.0, crashes_at=2.0)
    found = propose(card.findings(SDXL), card.machine, BridgeData())
    power = next(each for each in found if each.key == "max_power")
    assert power.value == 50
    assert "crashed (it was killed)" in power.why


def test_owners_skips_stay_and_models_that_were_not_tried_are_not_left_out():
    values = LAPTOP.values(SD15, SDXL, models_to_skip=["pix2pix"])
    assert values["models_to_skip"][0] == "pix2pix"
    unmeasured = Findings((SD15, FLUX), LAPTOP.findings(SD15).measured, {}, cut_short=True)
    keys = {each.key: each.value for each in propose(unmeasured, LAPTOP.machine, BridgeData())}
    assert "models_to_skip" not in keys


def test_without_real_models_only_the_machine_decides_and_that_is_said():
    tiny = replace(SD15, real=False)
    found = propose(TWENTY_FOUR.findings(tiny), TWENTY_FOUR.machine, BridgeData())
    assert all("nothing was measured" in each.why for each in found)
    assert next(each for each in found if each.key == "max_power").value == 64
    assert len(TWENTY_FOUR.findings(tiny).measured) == 1


def test_what_the_horde_asks_for_stands_beside_what_was_measured():
    (good,) = demands(TWENTY_FOUR.findings(SD15))
    assert good.fast_enough
    assert good.earns_enough
    (bad,) = demands(PROCESSOR.findings(SD15))
    assert not bad.fast_enough
    assert not bad.earns_enough
    assert demands(Findings((SD15,), (), {})) == []


def test_sizes_climb_until_one_fails_and_batches_until_one_fails():
    tried = [each.shot for each in EIGHT.findings(SDXL).measured]
    assert (tried[0].width, tried[0].batch) == (native_side(SDXL), 1)
    assert len(tried) == len(set(tried))
    assert len(tried) < 14
    failed = [each for each in EIGHT.findings(SDXL).measured if not each.made]
    assert len(failed) <= 2


def test_a_model_too_large_for_its_own_size_is_tried_smaller_and_then_left_alone():
    tried = [each.shot.width for each in LAPTOP.findings(SDXL).measured]
    assert tried[0] == 1024
    assert tried[1:] == sorted(tried[1:], reverse=True)


def test_what_a_shot_will_take_follows_from_the_last():
    done = [EIGHT.shoot(Shot("Deliberate", SD15.family, 512, 512))]
    assert expected_s(Shot("Deliberate", SD15.family, 1024, 1024), done) > 4 * done[0].seconds
    assert expected_s(Shot("Other", SD15.family, 512, 512), done) == 0
    assert limit_s(done[0].shot, extra_slow=True) == 3 * limit_s(done[0].shot)


class PretendedStudio:
    def __init__(self, card: PretendedCard, *, starts: int = 10**6) -> None:
        self.card, self.starts, self.closed = card, starts, False

    async def shoot(self, shot, *, within_s):
        assert within_s > 0
        self.starts -= 1
        if self.starts < 0:
            raise EngineStartFailed("it did not start")
        return self.card.shoot(shot)

    async def pace(self, _shot, pictures):
        await asyncio.sleep(0.01 * pictures)
        return 0.01 * pictures

    async def aclose(self):
        self.closed = True


def run(card: PretendedCard, *, within_s: float = 60, starts: int = 10**6) -> tuple[Findings, list[PretendedStudio]]:
    made: list[PretendedStudio] = []

    def make(_number):
        made.append(PretendedStudio(card, starts=starts))
        return made[-1]

    return asyncio.run(measure((SD15, SDXL), card.machine, make, lambda *_: None, within_s=within_s)), made


def test_every_model_is_measured_and_every_engine_ends():
    findings, studios = run(EIGHTY)
    assert {each.shot.model for each in findings.measured} == {SD15.model, SDXL.model}
    assert len(studios) == 2
    assert all(studio.closed for studio in studios)
    assert 2 in findings.together


def test_without_time_nothing_is_begun_and_that_is_said():
    findings, (studio,) = run(EIGHTY, within_s=1)
    assert findings.cut_short
    assert findings.measured == ()
    assert studio.closed


def test_an_engine_that_never_starts_is_an_error_and_one_that_no_longer_does_an_answer():
    with pytest.raises(EngineStartFailed):
        run(EIGHT, starts=0)
    findings, _ = run(EIGHT, starts=2)
    assert End.CRASHED in {each.end for each in findings.measured}
