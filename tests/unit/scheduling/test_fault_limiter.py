"""No more jobs are asked for than may fail without the Horde's limit being passed."""

from tests.clock import ManualClock
from worker.errors import AdditionBroken, EngineDied, JobNotUnderstood, PayloadFailed
from worker.horde.messages import PopResponse
from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling.fault_limiter import HOUR_S, FaultLimiter
from worker.scheduling.wait_log import WaitKind


class Rig:
    """A limiter, its clock, and what becomes of jobs."""

    def __init__(self):
        self.clock = ManualClock()
        self.limiter = FaultLimiter(clock=self.clock)

    def faulted(self, images=1, *, late=0, error=None):
        job = job_of(images + late)
        job.error = error
        job.faulted, job.owed = images, job.owed[:late]
        self.limiter.note(JobEvent(job, Stage.FAULTED))

    def succeeded(self):
        self.limiter.note(JobEvent(job_of(1), Stage.DONE))

    def left(self, *, under_way=0, failing=0):
        lost = [job_of(1) for _ in range(failing)]
        for job in lost:
            job.fault = "…"
        return self.limiter.images_left([*lost, *(job_of(1) for _ in range(under_way))], asked=0)


def job_of(images):
    return Job(PopResponse(ids=[str(number) for number in range(images)]), popped_at=0.0)


def test_a_worker_without_faults_is_not_held_back():
    assert Rig().limiter.wait() is None


def test_three_faults_in_a_row_pause_for_three_minutes():
    rig = Rig()
    rig.clock.now = 100.0
    for _ in range(3):
        rig.faulted()
    reason = rig.limiter.wait()
    assert (reason.kind, reason.sentence, reason.until) == (WaitKind.FAULTS, "3 jobs in a row were faulted.", 280.0)
    assert reason.remedy
    rig.clock.now = 280.0
    assert rig.limiter.wait() is None


def test_faults_in_a_row_are_told_from_too_many_within_an_hour():
    row, many = Rig(), Rig()
    for _ in range(3):
        row.faulted()
    many.faulted(15)
    assert row.limiter.is_in_a_row()
    assert not many.limiter.is_in_a_row()
    row.clock.now = 181.0
    assert not row.limiter.is_in_a_row()


def test_a_success_between_faults_ends_the_row():
    rig = Rig()
    for _ in range(5):
        rig.faulted()
        rig.succeeded()
    assert rig.limiter.wait() is None


def test_intake_pauses_before_the_hordes_21st_fault_of_an_hour_until_the_oldest_is_forgotten():
    rig = Rig()
    for minute in range(15):
        rig.clock.now = 60.0 * minute
        rig.faulted()
        rig.succeeded()
    reason = rig.limiter.wait()
    assert reason.until == HOUR_S
    assert "within an hour" in reason.sentence
    rig.clock.now = HOUR_S
    assert rig.limiter.wait() is None


def test_each_image_of_a_faulted_batch_counts():
    rig = Rig()
    rig.faulted(15)
    assert rig.limiter.wait()


def test_what_comes_too_late_or_was_faulted_by_an_earlier_run_counts_for_the_hour_and_not_in_a_row():
    rig = Rig()
    rig.limiter.count(10, ago_s=600.0)
    assert rig.limiter.wait() is None
    rig.faulted(0, late=5)
    assert rig.limiter.wait().until == HOUR_S - 600.0
    assert not rig.limiter.is_in_a_row()


def taken_at_worst(rig):
    """Images that are asked for, and fault one after the other, until no more are."""
    under_way = faulted = 0
    while left := rig.left(under_way=under_way):
        under_way += left
        rig.faulted()
        under_way, faulted = under_way - 1, faulted + 1
    return under_way + faulted


def test_however_many_engines_a_broken_worker_stays_below_the_hordes_limit_with_all_that_is_under_way():
    assert taken_at_worst(Rig()) <= 20


def test_a_worker_that_breaks_after_a_fault_stays_below_the_limit_from_then_on():
    rig = Rig()
    for _ in range(100):
        rig.succeeded()
    rig.faulted()
    assert 1 + taken_at_worst(rig) <= 20


def test_images_on_which_nobody_counts_any_more_are_as_many_faults():
    rig = Rig()
    rig.succeeded()
    assert rig.left(failing=18) == 0


def test_an_image_whose_delivery_takes_long_counts_as_one_on_which_nobody_counts():
    rig = Rig()
    rig.succeeded()
    slow = [job_of(1) for _ in range(18)]
    for job in slow:
        job.rendered_at = 0.0
    assert rig.limiter.images_left(slow, asked=0) > 0
    rig.clock.now = rig.limiter.slow_delivery_s + 1.0
    assert rig.limiter.images_left(slow, asked=0) == 0


def test_where_most_are_as_good_as_lost_the_others_under_way_may_be_so_too():
    rig = Rig()
    rig.succeeded()
    assert rig.left(under_way=8, failing=10) == 0
    assert rig.left(under_way=64, failing=1) > 0


def test_many_engines_at_work_are_held_back_by_no_fault_now_and_then():
    rig = Rig()
    for _ in range(3):
        rig.faulted()
        for _ in range(100):
            rig.succeeded()
    assert rig.left(under_way=64) >= 64


def test_where_every_other_job_fails_those_under_way_may_all_fail():
    rig = Rig()
    for _ in range(5):
        rig.faulted()
        rig.succeeded()
    assert rig.left(under_way=10) <= 20 - 5 - 10


def test_what_pops_under_way_may_bring_is_under_way_too():
    rig = Rig()
    assert rig.limiter.images_left([], asked=5) == rig.left() - 5


def test_what_requesters_cause_pauses_nobody_but_counts_towards_the_hordes_limit():
    rig = Rig()
    for error in (PayloadFailed("…"), JobNotUnderstood("…"), AdditionBroken("…", additions=frozenset())):
        for _ in range(4):
            rig.faulted(error=error)
    assert rig.limiter.wait() is None
    for _ in range(3):
        rig.faulted(error=PayloadFailed("…"))
    assert rig.limiter.wait().kind is WaitKind.FAULTS


def test_a_stranger_between_two_faults_of_the_engines_does_not_hide_them():
    rig = Rig()
    for error in (EngineDied("…"), PayloadFailed("…"), EngineDied("…"), PayloadFailed("…"), EngineDied("…")):
        rig.faulted(error=error)
    assert rig.limiter.wait().kind is WaitKind.FAULTS
