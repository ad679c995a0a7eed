"""What the Horde says of this worker is told once, and when it is over."""

import pytest

from worker.errors import HordeBusy, HordeKeyUnknown, HordeMaintenance, HordeUnreachable
from worker.horde.messages import Message
from worker.scheduling.horde_status import KEY_PATIENCE_S, LONG_PAUSE_S, MOST_TOLD, SAY_AGAIN_S, Standing, duration


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


def busy(pause_s):
    return HordeBusy("Too many requests.", retry_after_s=pause_s)


def test_a_short_pause_that_the_horde_asks_for_is_nothing_to_tell(said):
    standing = Standing()
    standing.failed(busy(5), pause_s=5, now=0.0)
    standing.answered([], now=5.0)
    assert said == []
    assert standing.trouble == ""


def test_a_long_pause_that_the_horde_asks_for_is_told_at_once(said):
    standing = Standing()
    standing.failed(busy(3000), pause_s=3000, now=0.0)
    standing.answered([], now=3000.0)
    assert said == ["No jobs, next try in 3000 s: Too many requests.", "The Horde gives jobs again, after 50 min."]


def test_short_pauses_one_after_the_other_are_told_once_they_make_a_long_one(said):
    standing = Standing()
    for now in range(0, 2 * int(LONG_PAUSE_S), 5):
        standing.failed(busy(5), pause_s=5, now=float(now))
    assert said == ["No jobs, next try in 5 s: Too many requests."]
    assert standing.trouble == "Too many requests."


def test_short_pauses_with_answers_in_between_make_no_long_one(said):
    standing = Standing()
    for now in range(0, 2 * int(LONG_PAUSE_S), 6):
        standing.failed(busy(5), pause_s=5, now=float(now))
        standing.answered([], now=now + 5.0)
    assert said == []


def test_maintenance_is_known_as_such():
    standing = Standing()
    standing.failed(HordeMaintenance("In maintenance."), pause_s=15, now=0.0)
    assert standing.maintenance
    standing.answered([], now=1.0)
    assert not standing.maintenance


UNKNOWN_KEY = HordeKeyUnknown("No account.", remedy="Check api_key.")


def deny_key(standing, now):
    """Whether the key's refusal may still pass."""
    if not standing.is_passing(UNKNOWN_KEY, now=now):
        return False
    standing.failed(UNKNOWN_KEY, pause_s=60, now=now)
    return True


def test_an_unknown_key_is_final_while_nothing_was_ever_answered():
    standing = Standing()
    standing.failed(HordeUnreachable("No answer."), pause_s=2, now=0.0)
    assert not deny_key(standing, now=1.0)


def test_maintenance_shows_that_the_key_is_known():
    standing = Standing()
    standing.failed(HordeMaintenance("In maintenance."), pause_s=15, now=0.0)
    assert deny_key(standing, now=1.0)


def test_a_key_that_was_known_becomes_final_when_it_stays_unknown_for_long():
    standing = Standing()
    standing.answered([], now=0.0)
    assert deny_key(standing, now=1000.0)
    assert deny_key(standing, now=1000.0 + KEY_PATIENCE_S - 1)
    assert not deny_key(standing, now=1000.0 + KEY_PATIENCE_S)


@pytest.mark.parametrize("recovery", ["an answer", "another trouble"])
def test_the_patience_with_a_key_begins_anew_after_anything_else(recovery):
    standing = Standing()
    standing.answered([], now=0.0)
    assert deny_key(standing, now=1000.0)
    if recovery == "an answer":
        standing.answered([], now=1001.0)
    else:
        standing.failed(HordeUnreachable("No answer."), pause_s=2, now=1001.0)
    assert deny_key(standing, now=1000.0 + KEY_PATIENCE_S)


def test_a_message_that_comes_with_every_pop_is_told_once(said):
    standing = Standing()
    for now in range(5):
        standing.answered([Message(id="1", message="hello"), Message(message="no id")], now=float(now))
    assert said == ["Message from the Horde: hello", "Message from the Horde: no id"]


def test_a_message_of_the_horde_is_one_line_without_commands_to_the_terminal(said):
    Standing().answered([Message(message="\x1b[2Jhello\n12:00 ERROR forged\x1b]0;title\x07 http://h/a?key=s")], now=0.0)
    assert said == ["Message from the Horde: [2Jhello 12:00 ERROR forged]0;title http://h/a?…"]


def test_what_was_told_is_not_remembered_for_ever():
    standing = Standing()
    for number in range(3 * MOST_TOLD):
        standing.answered([Message(id=str(number), message="x")], now=0.0)
    assert len(standing._told) == MOST_TOLD


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (119, "119 s"), (180, "3 min"), (9000, "2.5 h")])
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
