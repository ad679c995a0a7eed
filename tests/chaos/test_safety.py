"""The safety child killed at every stage of a job: each image is delivered or faulted, and none leaves unchecked."""

import asyncio
import contextlib
from collections.abc import Callable

import psutil
import pytest

from worker.app.worker_spec import Tolerance
from worker.demo.engine.script import Script
from worker.demo.horde.records import ImageRequest, Outcome
from worker.demo.safety.script import SafetyFault, SafetyFaultKind, SafetyScript
from worker.demo.safety.settings import scripted_safety
from worker.jobs.job import Stage
from worker.process.supervisor import RestartPolicy
from worker.safety.gate import SafetyGate

from .conftest import MODEL, Rig
from .rig import UNLIMITED

pytestmark = pytest.mark.chaos

#: What the double calls nudity; the worker below lets none out, so any picture that leaves must be a panel.
NUDE = "[nsfw] fox"


class Gate(SafetyGate):
    """A checker whose verdicts are counted."""

    verdicts = 0

    async def check(self, image, **context):
        verdict = await super().check(image, **context)
        self.verdicts += 1
        return verdict


@pytest.fixture
def gate(rig: Rig) -> Gate:
    settings = scripted_safety(rig.folder / "safety", script=rig.folder / "safety.json")
    checker = Gate(lambda: settings, policy=RestartPolicy(backoff_s=(0.0,), limit=1000))
    rig.safety = checker
    return checker


def play(rig: Rig, *faults: SafetyFault, seconds: float = 0.0) -> None:
    SafetyScript(seconds=seconds, faults=faults).write(rig.folder / "safety.json")


def ask_nude(rig: Rig, count: int, **params) -> list[str]:
    """Requests whose images must not leave as they are."""
    asked = {"width": 64, "height": 64, "steps": 4, "cfg_scale": 5.0, **params}
    return [
        rig.horde.state.enqueue(ImageRequest(prompt=NUDE, models=(MODEL,), params=asked, nsfw=False, censor_nsfw=True))
        for _ in range(count)
    ]


def all_withheld(rig: Rig, requests: list[str], gate: Gate) -> None:
    """Every popped id has one answer; every picture that left is a panel in another's place, and was decided on."""
    books = rig.horde.state.accounting()
    assert books.lost == books.duplicates == books.late == books.unknown == 0
    delivered = [delivery for request in requests for delivery in rig.horde.state.deliveries(request)]
    assert len(delivered) == rig.outcomes()[Outcome.OK] <= gate.verdicts
    assert all(delivery.censored for delivery in delivered)
    for delivery in delivered:
        colours = delivery.picture().to_pillow().convert("L").getextrema()
        assert colours[1] < 160, "a picture of the engine's got out"


def kill(gate: Gate) -> None:
    if gate.process and gate.process.pid:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(gate.process.pid).kill()


async def test_what_may_not_leave_is_replaced_image_by_image(rig, gate):
    requests = ask_nude(rig, 2)
    plain = rig.ask(1)
    async with rig.working():
        await rig.done(requests + plain)
    assert rig.outcomes() == {Outcome.OK: 3}
    withheld = [rig.horde.state.deliveries(request)[0] for request in requests]
    assert [delivery.censored for delivery in withheld] == [True, True]
    assert all({"type": "censorship", "value": "nsfw"} in list(delivery.gen_metadata) for delivery in withheld)
    [delivery] = rig.horde.state.deliveries(plain[0])
    assert not delivery.censored


STAGES: dict[str, Callable[[Rig, Gate], object]] = {
    "while it starts": lambda rig, gate: gate.process and gate.process.pid,
    "before a job": lambda rig, gate: not gate.hold(),
    "popped": lambda rig, gate: rig.jobs,
    "rendering": lambda rig, gate: any(job.progress[0] for job in rig.jobs),
    "looking": lambda rig, gate: gate.process and gate.process.asked and gate._waiting,
    "delivering": lambda rig, gate: gate.verdicts,
}


@pytest.mark.parametrize("stage", STAGES)
async def test_a_child_killed_at_any_stage_of_a_job_costs_no_job_and_lets_nothing_out(rig, gate, stage):
    Script(seconds=0.3).write(rig.script_file)
    play(rig, seconds=0.3)
    requests = ask_nude(rig, 2)
    async with rig.working():
        await rig.until(lambda: STAGES[stage](rig, gate))
        kill(gate)
        await rig.done(requests)
    all_withheld(rig, requests, gate)
    assert rig.outcomes() == {Outcome.OK: 2}


async def test_a_child_that_dies_on_every_image_faults_its_job_and_lets_nothing_out(rig, gate):
    play(rig, SafetyFault(SafetyFaultKind.CRASH, times=None))
    requests = ask_nude(rig, 1)
    async with rig.working():
        await rig.done(requests)
    all_withheld(rig, requests, gate)
    # The embedded Horde, like the real one, offers a faulted job once more.
    assert rig.outcomes() == {Outcome.FAULTED: 2}
    assert gate.verdicts == 0


async def test_a_batch_of_which_one_image_can_not_be_looked_at_loses_only_that_one(rig, gate):
    rig.config = {"max_batch": 4}
    play(rig, SafetyFault(SafetyFaultKind.ERROR, times=2))
    [request] = ask_nude(rig, 1, n=3)
    async with rig.working():
        await rig.done([request])
    all_withheld(rig, [request], gate)
    assert rig.outcomes()[Outcome.FAULTED] == 1
    assert rig.outcomes()[Outcome.OK] == 3


async def test_checks_overlap_the_sampling_of_the_next_job(rig, gate):
    """Seen by what is under way at the same time, not by the clock."""
    Script(seconds=0.5).write(rig.script_file)
    play(rig, seconds=0.5)
    requests = rig.ask(4)
    both = asyncio.Event()

    async def watch() -> None:
        while True:
            stages = {job.stage for job in rig.jobs}
            if Stage.DELIVERING in stages and Stage.RENDERING in stages and gate._waiting:
                both.set()
            await asyncio.sleep(0.01)

    watching = asyncio.ensure_future(watch())
    async with rig.working():
        await rig.done(requests)
    watching.cancel()
    assert both.is_set()


async def test_under_random_faults_of_the_child_the_books_balance_and_nothing_gets_out(rig, gate):
    kinds = (
        SafetyFaultKind.CRASH, SafetyFaultKind.GARBAGE, SafetyFaultKind.NO_VERDICT, SafetyFaultKind.WRONG_IMAGE,
        SafetyFaultKind.ERROR, SafetyFaultKind.START_CRASH,
    )  # fmt: skip
    play(rig, *(SafetyFault(kind, times=None, chance=0.08) for kind in kinds))
    rig.config = {"max_batch": 2}
    rig.tolerance = Tolerance(faults=UNLIMITED)
    requests = ask_nude(rig, 8, n=2)
    async with rig.working():
        await rig.done(requests)
    all_withheld(rig, requests, gate)
