"""What the Horde says of this worker is told once, and when it is over."""

import pytest

from worker.errors import HordeBusy, HordeKeyUnknown, HordeMaintenance, HordeUnreachable
from worker.horde.messages import PopResponse
from worker.scheduling.pop_backoff import (
    KEY_PATIENCE_S,
    LONG_PAUSE_S,
    MOST_POPS,
    PopBackoff,
    PopPauses,
)
from worker.scheduling.wait_log import SAY_AGAIN_S, WaitKind, WaitLog


class Told:
    """A backoff, and the report that tells of it."""

    def __init__(self):
        self.backoff, self.report = PopBackoff(), WaitLog()

    def failed(self, error, now):
        self.backoff.failed(error, now=now)
        assert self.backoff.trouble
        self.report.note([self.backoff.trouble], now)

    def answered(self, now):
        self.backoff.answered(PopResponse(), now=now)
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
    assert said == ["No new jobs: Too many requests."]


def test_short_pauses_with_answers_in_between_make_no_long_one(said):
    told = Told()
    for now in range(0, 2 * int(LONG_PAUSE_S), 6):
        told.failed(busy(5), float(now))
        told.answered(now + 5.0)
    assert said == []


@pytest.mark.parametrize("asked_s", [3601.0, 999_999.0, 1e300, float("inf"), float("nan")])
def test_no_pause_that_the_horde_asks_for_is_longer_than_an_hour(asked_s):
    backoff = PopBackoff()
    backoff.failed(busy(asked_s), now=100.0)
    assert backoff.not_before == 100.0 + 3600.0
    assert backoff.wait(100.0 + 3600.0) is None


def test_pauses_after_errors_grow_to_the_longest_however_many_come():
    backoff = PopBackoff(PopPauses(error_s=2.0, longest_error_s=60.0))
    pauses = []
    for _ in range(2000):
        backoff.failed(HordeUnreachable("No answer."), now=0.0)
        pauses.append(backoff.not_before)
    assert pauses[:6] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert pauses[-1] == 60.0
    backoff.answered(PopResponse(id="j"), now=0.0)
    backoff.failed(HordeUnreachable("No answer."), now=0.0)
    assert backoff.not_before == 2.0


def test_pops_under_way_double_with_each_job_and_are_one_again_when_none_comes():
    backoff = PopBackoff()
    allowed = []
    for _ in range(6):
        backoff.answered(PopResponse(id="j"), now=0.0)
        allowed.append(backoff.pops_at_once)
    assert allowed == [2, 4, 8, MOST_POPS, MOST_POPS, MOST_POPS]
    backoff.answered(PopResponse(), now=0.0)
    assert backoff.pops_at_once == 1
    assert backoff.wait(0.5).kind is WaitKind.NOTHING_CAME


def test_maintenance_is_known_as_such():
    backoff = PopBackoff()
    backoff.failed(HordeMaintenance("In maintenance."), now=0.0)
    assert backoff.trouble.kind is WaitKind.MAINTENANCE
    backoff.answered(PopResponse(), now=1.0)
    assert backoff.trouble is None


UNKNOWN_KEY = HordeKeyUnknown("No account.", remedy="Check api_key.")


def deny_key(backoff, now):
    """Whether the key's refusal may still pass."""
    if not backoff.is_passing(UNKNOWN_KEY, now=now):
        return False
    backoff.failed(UNKNOWN_KEY, now=now)
    return True


def test_an_unknown_key_is_final_while_nothing_was_ever_answered():
    backoff = PopBackoff()
    backoff.failed(HordeUnreachable("No answer."), now=0.0)
    assert not deny_key(backoff, now=1.0)


def test_maintenance_shows_that_the_key_is_known():
    backoff = PopBackoff()
    backoff.failed(HordeMaintenance("In maintenance."), now=0.0)
    assert deny_key(backoff, now=1.0)


def test_a_key_that_was_known_becomes_final_when_it_stays_unknown_for_long():
    backoff = PopBackoff()
    backoff.answered(PopResponse(), now=0.0)
    assert deny_key(backoff, now=1000.0)
    assert deny_key(backoff, now=1000.0 + KEY_PATIENCE_S - 1)
    assert not deny_key(backoff, now=1000.0 + KEY_PATIENCE_S)


@pytest.mark.parametrize("recovery", ["an answer", "another trouble"])
def test_the_patience_with_a_key_begins_anew_after_anything_else(recovery):
    backoff = PopBackoff()
    backoff.answered(PopResponse(), now=0.0)
    assert deny_key(backoff, now=1000.0)
    if recovery == "an answer":
        backoff.answered(PopResponse(), now=1001.0)
    else:
        backoff.failed(HordeUnreachable("No answer."), now=1001.0)
    assert deny_key(backoff, now=1000.0 + KEY_PATIENCE_S)


def empty(**skipped):
    return PopResponse(skipped=skipped)


def test_only_time_in_which_an_engine_was_idle_and_no_job_came_counts_as_asking_in_vain():
    backoff = PopBackoff()
    for now in (0.0, 10.0, 20.0):
        backoff.answered(empty(), now=now)
    assert backoff.in_vain_s == 20.0
    backoff.answered(empty(), now=30.0, for_idle_engine=False)
    backoff.answered(empty(), now=40.0)
    assert backoff.in_vain_s == 20.0, "every engine was at work between"
    backoff.answered(empty(), now=1000.0)
    assert backoff.in_vain_s == 20.0, "nothing was asked for between"
    backoff.answered(PopResponse(id="j"), now=1001.0)
    assert backoff.in_vain_s == 0.0


def test_requests_that_are_not_for_this_worker_are_told_with_the_key_that_changes_it():
    backoff = PopBackoff()
    backoff.answered(empty(models=8, lora=11, nsfw=0, max_pixels=1, worker_id=2, img2img=1), now=0.0)
    assert backoff.passed_over == (
        "Of the requests that wait at the Horde, 11 want LoRAs (allow_lora); 8 want other models (models_to_load); "
        "2 are for certain other workers; 1 want larger pictures (max_power)."
    )
    backoff.answered(PopResponse(id="j"), now=1.0)
    assert backoff.passed_over == ""


@pytest.mark.parametrize("count", ["many", None, -5, float("nan"), [3], {"x": 1}, 1.5])
def test_counts_that_are_none_are_passed_over(count):
    backoff = PopBackoff()
    backoff.answered(empty(models=count, forged="\x1b[2J", lora=10**400), now=0.0)
    assert backoff.passed_over == "Of the requests that wait at the Horde, 1000000 want LoRAs (allow_lora)."
