"""Every job leaves lines in the log that say what was asked, how fast it went, and what it brought."""

import pytest
from loguru import logger

from tests.unit.console.views import job_record, job_view
from worker.console.job_log import describe_job, log_end, log_stage, render_speed
from worker.status.snapshot import Outcome


@pytest.fixture
def told():
    lines = []
    sink = logger.add(lambda message: lines.append((message.record["level"].name, message.record["message"])))
    yield lines
    logger.remove(sink)


def test_a_job_is_told_in_one_line_with_what_makes_it_special():
    assert describe_job(job_view()) == "Deliberate, 512x768, 30 steps k_euler, 145 s to do it"
    special = describe_job(job_view(details=("2 images", "ControlNet canny")))
    assert special == "Deliberate, 512x768, 30 steps k_euler, 2 images, ControlNet canny, 145 s to do it"
    assert describe_job(job_view(width=0, steps=0)).startswith("Deliberate, ?x768, ? steps")


def test_the_pace_counts_every_step_of_every_image():
    assert render_speed(job_view(images=2, begun_at=1001.0, rendered_at=1011.0)) == " in 10.0 s, 6.0 steps/s"
    assert render_speed(job_view(begun_at=1001.0, rendered_at=1001.0)) == " in 0.0 s"
    assert not render_speed(job_view())


def test_pop_end_of_rendering_and_submit_are_told_and_nothing_else(told):
    for stage in ("popped", "fetching", "rendering", "delivering", "reporting", "done"):
        log_stage(job_view(), stage)
    log_end(job_record())
    log_end(job_record(outcome=Outcome.FAULTED))
    assert [level for level, _ in told] == ["INFO", "INFO", "SUCCESS"]
    assert told[-1][1] == "Job 9755d4c1: submitted, 12.3 kudos, 8.0 s since the pop (Deliberate, 512x768)"
