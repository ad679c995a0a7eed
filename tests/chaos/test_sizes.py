"""The Horde stores a worker's limit of size late, and sends what it must not by what it stored before."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.app.worker_spec import Tolerance
from worker.demo.horde.dispatch import Rules
from worker.demo.horde.records import Baseline, ModelFacts
from worker.demo.horde.server import serve_in_thread
from worker.demo.horde.state import EmbeddedHorde
from worker.scheduling.device_limits import RotationTimes
from worker.scheduling.estimates.memory import OutOfMemoryLimits

from .rig import MODEL, OTHER, Rig

pytestmark = pytest.mark.chaos

LARGE, SMALL = {"width": 512, "height": 512}, {"width": 256, "height": 256}


@pytest.fixture
def slow_to_note(tmp_path: Path, quick_worker_python: Path) -> Iterator[Rig]:
    """A rig whose Horde stores switches every three seconds, and a worker that reckons with a little more."""
    state = EmbeddedHorde(
        models=dict.fromkeys((MODEL, OTHER), ModelFacts(Baseline.SD1)), rules=Rules(checkin_debounce_s=3.0), seed=1
    )
    with serve_in_thread(state) as running:
        yield Rig(running, tmp_path, python=quick_worker_python)


def ran_out() -> OutOfMemoryLimits:
    """The other model's large pictures did not fit."""
    limits = OutOfMemoryLimits()
    limits.ran_out(OTHER, "cpu", time.monotonic(), pixels=512 * 512, batch=1)
    return limits


async def test_no_size_comes_that_a_model_can_not_do_and_none_that_it_can_is_left(slow_to_note):
    rig = slow_to_note
    rig.models.served = (MODEL, OTHER)
    rig.tolerance = Tolerance(out_of_memory=ran_out, rotation=RotationTimes(4.0, 9.0, 6.0))
    too_large = rig.ask(1, model=OTHER, **LARGE)
    async with rig.working():
        for model, size in ((MODEL, LARGE), (OTHER, SMALL), (MODEL, LARGE), (OTHER, SMALL)):
            await rig.done(rig.ask(3, model=model, **size))
    assert [job.pop.payload["width"] for job in rig.jobs if job.pop.model == OTHER] == [256] * 6
    assert len(rig.jobs) == 12
    assert not rig.horde.state.check(too_large[0])["processing"]
