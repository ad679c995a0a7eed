"""The intake asks for jobs while that makes sense, and ends only for what its owner must mend."""

import asyncio

import pytest
from loguru import logger

from worker.aio import timeout, ungrouped
from worker.errors import HordeKeyUnknown, HordeRefused
from worker.horde.wire import PopRequest, PopResponse
from worker.jobs import intake as module
from worker.jobs.intake import Intake, Room

#: For everything a test waits for.
PATIENCE_S = 60.0
#: what is asked for plays no part here
REQUEST = PopRequest.model_construct()
UNKNOWN_KEY = HordeKeyUnknown("No account.", rc="InvalidAPIKey", remedy="Check api_key.")
NOTHING = PopResponse()


class Horde:
    """Answers pops as told, then stops the worker."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.stop = asyncio.Event()

    async def pop(self, request):
        answer = self.answers.pop(0)
        if not self.answers:
            self.stop.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    for name in ("EMPTY_PAUSE_S", "ERROR_PAUSE_S", "MAINTENANCE_PAUSE_S"):
        monkeypatch.setattr(module, name, 0.0)


@pytest.fixture
def warnings():
    lines = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    yield lines
    logger.remove(sink)


async def run(horde):
    intake = Intake(horde, runner=None, offer=lambda asking: REQUEST, room=lambda: Room(1, 0, 0.0))
    with ungrouped():
        async with timeout(PATIENCE_S):
            await intake.run(horde.stop)


async def test_a_key_that_is_unknown_from_the_first_ends_the_worker():
    horde = Horde(UNKNOWN_KEY, NOTHING)
    with pytest.raises(HordeRefused, match="api_key"):
        await run(horde)


async def test_a_key_that_was_known_before_is_tried_again_and_its_owner_told_once(warnings):
    horde = Horde(NOTHING, UNKNOWN_KEY, UNKNOWN_KEY, UNKNOWN_KEY, NOTHING)
    await run(horde)
    assert horde.answers == []
    assert len(warnings) == 1
    assert "Check api_key." in warnings[0]


async def test_any_other_refusal_ends_the_worker_at_once():
    horde = Horde(NOTHING, HordeRefused("Another account's name."), NOTHING)
    with pytest.raises(HordeRefused, match="Another account"):
        await run(horde)
