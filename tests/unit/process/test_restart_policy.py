"""When a dead engine is started again and when a failed job gets another try; clocks are numbers here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import EngineDied, EngineError, GraphRejected, ModelBroken, NodeFailed, OutOfMemory, Retry
from worker.process.restart_policy import RestartPolicy, RetryPolicy


def test_restarts_in_a_row_wait_longer_each_time() -> None:
    policy = RestartPolicy(backoff_s=(0.0, 2.0, 10.0), limit=9)

    assert [policy.died(now) for now in (0, 1, 2, 3, 4)] == [0.0, 2.0, 10.0, 10.0, 10.0]


def test_one_death_too_many_within_the_window_sets_the_slot_aside() -> None:
    policy = RestartPolicy(limit=2, window_s=100, quarantine_s=900)

    assert [policy.died(now) for now in (0, 1, 2)] == [0.0, 2.0, 900]


def test_after_its_rest_a_slot_begins_anew() -> None:
    policy = RestartPolicy(limit=1, window_s=100, quarantine_s=900)
    assert [policy.died(now) for now in (0, 1)] == [0.0, 900]

    assert policy.died(2) == 0.0


def test_deaths_before_the_window_are_forgotten() -> None:
    policy = RestartPolicy(limit=1, window_s=100)

    assert [policy.died(now) for now in (0, 100, 200, 299)] == [0.0, 0.0, 0.0, policy.quarantine_s]


def test_an_engine_that_served_for_long_makes_up_for_the_deaths_before_it() -> None:
    policy = RestartPolicy(backoff_s=(0.0, 2.0, 10.0), limit=2, window_s=3600, stable_s=600)

    assert [policy.died(now, served_s=served) for now, served in ((0, 0), (100, 50), (800, 650), (900, 50))] == [
        0.0, 2.0, 0.0, 2.0,
    ]  # fmt: skip


def test_an_engine_that_takes_minutes_to_die_each_time_is_set_aside_all_the_same() -> None:
    policy = RestartPolicy()

    assert policy.quarantine_s in [policy.died(now, served_s=150) for now in range(0, 1500, 250)]


@given(st.lists(st.floats(min_value=0.001, max_value=1000), min_size=1, max_size=50))
def test_no_window_ever_holds_more_restarts_than_the_limit(gaps: list[float]) -> None:
    policy = RestartPolicy(limit=3, window_s=600, quarantine_s=900)
    now = 0.0
    starts: list[float] = []
    for gap in gaps:
        now += policy.died(now)
        starts.append(now)
        assert sum(start > now - policy.window_s for start in starts) <= policy.limit + 1
        now += gap


@pytest.mark.parametrize(
    ("error", "attempt", "took_s", "left_s", "expected"),
    [
        (EngineDied("…"), 1, 5.0, 60.0, Retry.SAME),
        (NodeFailed("…"), 1, 5.0, 60.0, Retry.SAME),
        (OutOfMemory("…"), 1, 5.0, 60.0, Retry.DEGRADED),
        (GraphRejected("…"), 1, 0.1, 60.0, Retry.NO),
        (ModelBroken("…"), 1, 0.1, 60.0, Retry.NO),
        (EngineDied("…"), 2, 5.0, 60.0, Retry.NO),
        (OutOfMemory("…"), 2, 5.0, 60.0, Retry.NO),
        (EngineDied("…"), 1, 30.0, 30.0, Retry.NO),
        (EngineDied("…"), 1, 30.0, 30.1, Retry.SAME),
        (EngineDied("…"), 1, 30.0, -1.0, Retry.NO),
    ],
)
def test_a_failed_job_gets_another_try_where_that_may_help_in_time(
    error: EngineError, attempt: int, took_s: float, left_s: float, expected: Retry
) -> None:
    assert RetryPolicy().next_try(error, attempt=attempt, took_s=took_s, left_s=left_s) is expected


def test_more_attempts_and_a_shorter_share_are_settings() -> None:
    policy = RetryPolicy(attempts=3, share_of_first=0.5)

    assert policy.next_try(EngineDied("…"), attempt=2, took_s=10, left_s=6) is Retry.SAME
    assert policy.next_try(EngineDied("…"), attempt=3, took_s=10, left_s=60) is Retry.NO
