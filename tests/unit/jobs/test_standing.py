"""What the Horde says of this worker is told once, and when it is over."""

import pytest
from loguru import logger

from worker.errors import HordeMaintenance, HordeUnreachable
from worker.horde.wire import Message
from worker.jobs.standing import MOST_TOLD, SAY_AGAIN_S, Standing, duration


@pytest.fixture
def said():
    lines = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    yield lines
    logger.remove(sink)


def test_a_trouble_that_lasts_is_told_once_and_again_after_a_while(said):
    standing = Standing()
    for now in range(0, int(SAY_AGAIN_S) + 1, 60):
        standing.failed(HordeUnreachable("No answer."), pause_s=60, now=float(now))
    assert len(said) == 2
    assert standing.trouble == "No answer."


def test_the_end_of_a_trouble_is_told_with_how_long_it_lasted(said):
    standing = Standing()
    standing.failed(HordeUnreachable("No answer."), pause_s=2, now=0.0)
    standing.failed(HordeUnreachable("Another reason."), pause_s=4, now=100.0)
    standing.answered([], now=300.0)
    standing.answered([], now=301.0)
    assert said[2:] == ["The Horde gives jobs again, after 5 min."]
    assert standing.trouble == ""


def test_maintenance_is_known_as_such():
    standing = Standing()
    standing.failed(HordeMaintenance("In maintenance."), pause_s=15, now=0.0)
    assert standing.maintenance
    standing.answered([], now=1.0)
    assert not standing.maintenance


def test_a_message_that_comes_with_every_pop_is_told_once(said):
    standing = Standing()
    for now in range(5):
        standing.answered([Message(id="1", message="hello"), Message(message="no id")], now=float(now))
    assert said == ["Message from the Horde: hello", "Message from the Horde: no id"]


def test_what_was_told_is_not_remembered_for_ever():
    standing = Standing()
    for number in range(3 * MOST_TOLD):
        standing.answered([Message(id=str(number), message="x")], now=0.0)
    assert len(standing._told) == MOST_TOLD


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (119, "119 s"), (180, "3 min"), (9000, "2.5 h")])
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
