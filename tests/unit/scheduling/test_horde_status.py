"""What the Horde says of this worker is told once, and when it is over."""

import pytest

from worker.errors import HordeBusy, HordeKeyUnknown, HordeMaintenance, HordeUnreachable
from worker.horde.messages import Message, PopResponse
from worker.scheduling.horde_status import (
    KEY_PATIENCE_S,
    LONG_PAUSE_S,
    LONGEST_PAUSE_S,
    MOST_POPS,
    MOST_TOLD,
    HordeStatus,
    PopPauses,
)
from worker.scheduling.wait import SAY_AGAIN_S, WaitKind, WaitReport


class Told:
    """A status, and the report that tells of it."""

    def __init__(self):
        self.status, self.report = HordeStatus(), WaitReport()

    def failed(self, error, now):
        self.status.failed(error, now=now)
        self.report.note([self.status.trouble], now)

    def answered(self, now):
        self.status.answered(PopResponse(), now=now)
        self.report.note([], now)


def test_a_trouble_that_lasts_is_told_once_and_again_after_a_while(said):
    told = Told()
    for now in range(0, int(SAY_AGAIN_S) + 1, 60):
        told.failed(HordeUnreachable("No answer."), float(now))
    assert len(said) == 2
    assert [reason.sentence for reason in told.report.told] == ["No answer."]


def test_the_end_of_a_trouble_is_told_with_how_long_it_lasted(said):
    told = Told()
    told.failed(HordeUnreachable("No answer."), 0.0)
    told.failed(HordeUnreachable("Another reason."), 100.0)
    told.answered(300.0)
    told.answered(301.0)
    assert said[2:] == ["Asking for jobs again, after 5 min."]
    assert told.report.told == ()


def busy(pause_s):
    return HordeBusy("Too many requests.", retry_after_s=pause_s)


def test_a_short_pause_that_the_horde_asks_for_is_nothing_to_tell(said):
    told = Told()
    told.failed(busy(5), 0.0)
    told.answered(5.0)
    assert said == []


def test_a_long_pause_that_the_horde_asks_for_is_told_at_once(said):
    told = Told()
    told.failed(busy(3000), 0.0)
    told.answered(3000.0)
    assert said == ["No new jobs for 50 min: Too many requests.", "Asking for jobs again, after 50 min."]


def test_short_pauses_one_after_the_other_are_told_once_they_make_a_long_one(said):
    told = Told()
    for now in range(0, 2 * int(LONG_PAUSE_S), 5):
        told.failed(busy(5), float(now))
    assert said == ["No new jobs for 5 s: Too many requests."]


def test_short_pauses_with_answers_in_between_make_no_long_one(said):
    told = Told()
    for now in range(0, 2 * int(LONG_PAUSE_S), 6):
        told.failed(busy(5), float(now))
        told.answered(now + 5.0)
    assert said == []


@pytest.mark.parametrize("asked_s", [3601.0, 999_999.0, 1e300, float("inf"), float("nan")])
def test_no_pause_that_the_horde_asks_for_is_longer_than_an_hour(asked_s):
    status = HordeStatus()
    status.failed(busy(asked_s), now=100.0)
    assert status.not_before == 100.0 + LONGEST_PAUSE_S
    assert status.wait(100.0 + LONGEST_PAUSE_S) is None


def test_pauses_after_errors_grow_to_the_longest_however_many_come():
    status = HordeStatus(PopPauses(error_s=2.0, longest_error_s=60.0))
    pauses = []
    for _ in range(2000):
        status.failed(HordeUnreachable("No answer."), now=0.0)
        pauses.append(status.not_before)
    assert pauses[:6] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert pauses[-1] == 60.0


def test_pops_under_way_double_with_each_job_and_are_one_again_when_none_comes():
    status = HordeStatus()
    allowed = []
    for _ in range(6):
        status.answered(PopResponse(id="j"), now=0.0)
        allowed.append(status.pops_at_once)
    assert allowed == [2, 4, 8, MOST_POPS, MOST_POPS, MOST_POPS]
    status.answered(PopResponse(), now=0.0)
    assert status.pops_at_once == 1
    assert status.wait(0.5).kind is WaitKind.NOTHING_CAME


def test_maintenance_is_known_as_such():
    status = HordeStatus()
    status.failed(HordeMaintenance("In maintenance."), now=0.0)
    assert status.trouble.kind is WaitKind.MAINTENANCE
    status.answered(PopResponse(), now=1.0)
    assert status.trouble is None


UNKNOWN_KEY = HordeKeyUnknown("No account.", remedy="Check api_key.")


def deny_key(status, now):
    """Whether the key's refusal may still pass."""
    if not status.is_passing(UNKNOWN_KEY, now=now):
        return False
    status.failed(UNKNOWN_KEY, now=now)
    return True


def test_an_unknown_key_is_final_while_nothing_was_ever_answered():
    status = HordeStatus()
    status.failed(HordeUnreachable("No answer."), now=0.0)
    assert not deny_key(status, now=1.0)


def test_maintenance_shows_that_the_key_is_known():
    status = HordeStatus()
    status.failed(HordeMaintenance("In maintenance."), now=0.0)
    assert deny_key(status, now=1.0)


def test_a_key_that_was_known_becomes_final_when_it_stays_unknown_for_long():
    status = HordeStatus()
    status.answered(PopResponse(), now=0.0)
    assert deny_key(status, now=1000.0)
    assert deny_key(status, now=1000.0 + KEY_PATIENCE_S - 1)
    assert not deny_key(status, now=1000.0 + KEY_PATIENCE_S)


@pytest.mark.parametrize("recovery", ["an answer", "another trouble"])
def test_the_patience_with_a_key_begins_anew_after_anything_else(recovery):
    status = HordeStatus()
    status.answered(PopResponse(), now=0.0)
    assert deny_key(status, now=1000.0)
    if recovery == "an answer":
        status.answered(PopResponse(), now=1001.0)
    else:
        status.failed(HordeUnreachable("No answer."), now=1001.0)
    assert deny_key(status, now=1000.0 + KEY_PATIENCE_S)


def test_a_message_that_comes_with_every_pop_is_told_once(said):
    status = HordeStatus()
    for now in range(5):
        status.answered(
            PopResponse(messages=[Message(id="1", message="hello"), Message(message="no id")]), now=float(now)
        )
    assert said == ["Message from the Horde: hello", "Message from the Horde: no id"]


def test_a_message_of_the_horde_is_one_line_without_commands_to_the_terminal(said):
    HordeStatus().answered(
        PopResponse(messages=[Message(message="\x1b[2Jhello\n12:00 ERROR forged\x1b]0;title\x07 http://h/a?key=s")]),
        now=0.0,
    )
    assert said == ["Message from the Horde: \\x1b[2Jhello 12:00 ERROR forged\\x1b]0;title\\x07 http://h/a?…"]


def test_what_was_told_is_not_remembered_for_ever():
    status = HordeStatus()
    for number in range(3 * MOST_TOLD):
        status.answered(PopResponse(messages=[Message(id=str(number), message="x")]), now=0.0)
    assert len(status._told) == MOST_TOLD


def empty(**skipped):
    return PopResponse(skipped=skipped)


def test_only_time_in_which_an_engine_was_idle_and_no_job_came_counts_as_asking_in_vain():
    status = HordeStatus()
    for now in (0.0, 10.0, 20.0):
        status.answered(empty(), now=now)
    assert status.in_vain_s == 20.0
    status.answered(empty(), now=30.0, for_idle_engine=False)
    status.answered(empty(), now=40.0)
    assert status.in_vain_s == 20.0, "every engine was at work between"
    status.answered(empty(), now=1000.0)
    assert status.in_vain_s == 20.0, "nothing was asked for between"
    status.answered(PopResponse(id="j"), now=1001.0)
    assert status.in_vain_s == 0.0


def test_requests_that_are_not_for_this_worker_are_told_with_the_key_that_changes_it():
    status = HordeStatus()
    status.answered(empty(models=8, lora=11, nsfw=0, max_pixels=1, worker_id=2, img2img=1), now=0.0)
    assert status.passed_over == (
        "Of the requests that wait at the Horde, 11 want LoRAs (allow_lora); 8 want other models (models_to_load); "
        "2 are for certain other workers; 1 want larger pictures (max_power)."
    )
    status.answered(PopResponse(id="j"), now=1.0)
    assert status.passed_over == ""


@pytest.mark.parametrize("count", ["many", None, -5, float("nan"), [3], {"x": 1}, 1.5])
def test_counts_that_are_none_are_passed_over(count):
    status = HordeStatus()
    status.answered(empty(models=count, forged="\x1b[2J", lora=10**400), now=0.0)
    assert status.passed_over == "Of the requests that wait at the Horde, 1000000 want LoRAs (allow_lora)."
