"""When a job that an engine failed gets another try."""

import pytest

from worker.engine.render_task import RenderRetries
from worker.errors import EngineDied, EngineError, GraphRejected, ModelBroken, NodeFailed, OutOfMemory, Retry


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
    assert RenderRetries().next_try(error, attempt=attempt, took_s=took_s, left_s=left_s) is expected


def test_more_attempts_and_a_shorter_share_are_settings() -> None:
    policy = RenderRetries(attempts=3, share_of_first=0.5)

    assert policy.next_try(EngineDied("…"), attempt=2, took_s=10, left_s=6) is Retry.SAME
    assert policy.next_try(EngineDied("…"), attempt=3, took_s=10, left_s=60) is Retry.NO
