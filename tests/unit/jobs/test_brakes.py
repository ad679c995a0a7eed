"""When no job is asked for, and why."""

from worker.jobs.brakes import GIB, HOUR_S, FaultBrake, Floors


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


def test_low_memory_and_low_disk_are_named():
    floors = Floors()
    assert floors.reason(memory_free=4 * GIB, disk_free=4 * GIB) == ""
    assert "memory" in floors.reason(memory_free=GIB // 2, disk_free=4 * GIB)
    assert "disk" in floors.reason(memory_free=4 * GIB, disk_free=GIB // 2)
