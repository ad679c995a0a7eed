"""When no job is asked for, and why."""

from worker.scheduling.fault_limiter import GIB, HOUR_S, FaultBrake, Floors


def test_a_worker_without_faults_is_not_held_back():
    assert FaultBrake().pause(0) == (0.0, "")


def test_three_faults_in_a_row_pause_for_three_minutes():
    brake = FaultBrake()
    for _ in range(3):
        brake.faulted(100)
    assert brake.pause(100) == (180.0, "3 jobs in a row were faulted")
    assert brake.pause(281) == (0.0, "")


def test_faults_in_a_row_are_told_from_too_many_within_an_hour():
    row, many = FaultBrake(), FaultBrake()
    for _ in range(3):
        row.faulted(0)
    many.faulted(0, images=15)
    assert (row.is_in_a_row(1), row.is_in_a_row(181), many.is_in_a_row(1)) == (True, False, False)


def test_a_success_between_faults_ends_the_row():
    brake = FaultBrake()
    for _ in range(5):
        brake.faulted(0)
        brake.succeeded()
    assert brake.pause(0) == (0.0, "")


def test_intake_pauses_before_the_hordes_21st_fault_of_an_hour_until_the_oldest_is_forgotten():
    brake = FaultBrake()
    for minute in range(15):
        brake.faulted(60 * minute)
        brake.succeeded()
    wait_s, reason = brake.pause(900)
    assert wait_s == HOUR_S - 900
    assert "within an hour" in reason
    assert brake.pause(HOUR_S + 1) == (0.0, "")


def test_each_image_of_a_faulted_batch_counts():
    brake = FaultBrake()
    brake.faulted(0, images=15)
    assert brake.pause(1)[1]


def test_what_comes_too_late_or_was_faulted_by_an_earlier_run_counts_for_the_hour_and_not_in_a_row():
    brake = FaultBrake()
    brake.count(0, images=10)
    assert brake.pause(1) == (0.0, "")
    brake.count(5, images=5)
    assert brake.pause(10)[0] == HOUR_S - 10
    assert not brake.is_in_a_row(10)


def taken_at_worst(brake, now=0.0):
    """Images that are asked for, and fault one after the other, until no more are."""
    under_way = faulted = 0
    while left := brake.images_left(now, under_way=under_way, failing=0):
        under_way += left
        brake.faulted(now)
        under_way, faulted = under_way - 1, faulted + 1
    return under_way + faulted


def test_however_many_engines_a_broken_worker_stays_below_the_hordes_limit_with_all_that_is_under_way():
    assert taken_at_worst(FaultBrake()) <= 20


def test_a_worker_that_breaks_after_a_fault_stays_below_the_limit_from_then_on():
    brake = FaultBrake()
    for _ in range(100):
        brake.succeeded()
    brake.faulted(0)
    assert 1 + taken_at_worst(brake) <= 20


def test_images_on_which_nobody_counts_any_more_are_as_many_faults():
    brake = FaultBrake()
    brake.succeeded()
    assert brake.images_left(0, under_way=0, failing=18) == 0


def test_where_most_are_as_good_as_lost_the_others_under_way_may_be_so_too():
    brake = FaultBrake()
    brake.succeeded()
    assert brake.images_left(0, under_way=8, failing=10) == 0
    assert brake.images_left(0, under_way=64, failing=1) > 0


def test_many_engines_at_work_are_held_back_by_no_fault_now_and_then():
    brake = FaultBrake()
    for _ in range(3):
        brake.faulted(0)
        for _ in range(100):
            brake.succeeded()
    assert brake.images_left(0, under_way=64, failing=0) >= 64


def test_where_every_other_job_fails_those_under_way_may_all_fail():
    brake = FaultBrake()
    for _ in range(5):
        brake.faulted(0)
        brake.succeeded()
    assert brake.images_left(0, under_way=10, failing=0) <= 20 - 5 - 10


def test_low_memory_and_low_disk_are_named():
    floors = Floors()
    assert floors.reason(memory_free=4 * GIB, disk_free=4 * GIB) == ""
    assert "memory" in floors.reason(memory_free=GIB // 2, disk_free=4 * GIB)
    assert "disk" in floors.reason(memory_free=4 * GIB, disk_free=GIB // 2)
