"""Whose failure it is decides what follows: a stranger's file or text costs the owner neither a model nor a pause."""

import pytest

from worker.demo.engine.script import Fault, FaultKind, strikes
from worker.demo.horde.records import Outcome
from worker.workflows.request import GenMetadataNote, LoraFile, LoraWish, ServedModel

from .rig import MODEL, OneModel

pytestmark = pytest.mark.chaos


class WithLoras(OneModel):
    """Every LoRA is here, in a file of its name."""

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | GenMetadataNote:
        return LoraFile(f"{wish.name}.safetensors", wish.model, wish.clip)


def told(rig, request: str) -> list[tuple[str, str, str | None]]:
    [delivery] = rig.horde.state.deliveries(request)
    return [(entry["type"], entry["value"], entry.get("ref")) for entry in delivery.gen_metadata]


async def test_jobs_with_a_broken_lora_are_delivered_without_it_and_their_requesters_told(rig):
    rig.models = WithLoras()
    rig.config = {"allow_lora": True}
    rig.play(faults=(Fault(FaultKind.LORA_BROKEN, times=None, lora="bad"),))
    asked = {"loras": [{"name": "bad"}, {"name": "good"}]}
    async with rig.working():
        for _ in range(3):
            requests = rig.ask(1, **asked)
            await rig.done(requests)
            assert told(rig, requests[0]) == [("lora", "parse_failed", "bad")]
            await rig.done(rig.ask(1))
    assert rig.outcomes() == {Outcome.OK: 6}
    # Once for all three: what engines could not use is known from then on.
    assert strikes(rig.script_file)[FaultKind.LORA_BROKEN] == 1
    assert MODEL in rig.models.readable
    assert rig.models.unreadable == [MODEL]


async def test_a_lora_of_another_family_is_told_as_that_and_stays_in_use_for_its_own(rig):
    rig.models = WithLoras()
    rig.config = {"allow_lora": True}
    rig.play(faults=(Fault(FaultKind.LORA_MISMATCH, lora="other"),))
    async with rig.working():
        [first] = rig.ask(1, loras=[{"name": "other"}])
        await rig.done([first])
        [second] = rig.ask(1, loras=[{"name": "other"}])
        await rig.done([second])
    assert told(rig, first) == [("lora", "baseline_mismatch", "other")]
    assert told(rig, second) == []
    assert rig.models.unreadable == []


async def test_texts_that_break_an_encoder_pause_nobody_and_cost_no_second_try(rig):
    rig.play(faults=(Fault(FaultKind.TEXT_FAILURE, times=8),))
    async with rig.working():
        # The embedded Horde, like the real one, offers a faulted job once more.
        await rig.done(rig.ask(4))
        requests = rig.ask(2)
        await rig.done(requests)
    assert rig.outcomes() == {Outcome.FAULTED: 8, Outcome.OK: 2}
    assert strikes(rig.script_file)[FaultKind.TEXT_FAILURE] == 8
    assert rig.models.unreadable == []


async def test_pictures_that_are_no_numbers_never_leave(rig):
    rig.play(faults=(Fault(FaultKind.NOT_FINITE, times=3),))
    async with rig.working():
        requests = rig.ask(2)
        await rig.done(requests)
    # Which of the two jobs each fell to decides whether one was given back to the Horde first.
    assert strikes(rig.script_file)[FaultKind.NOT_FINITE] == 3
    assert rig.outcomes()[Outcome.OK] == 2
