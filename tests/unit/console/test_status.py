"""The status block says in a few lines what the worker has done, does, and why it does nothing."""

import pytest

from worker.console.status import EngineLine, Status, status_lines
from worker.jobs.session_stats import SessionStats
from worker.units import GIB

HOUR = 3600.0


def status(**more):
    stats = SessionStats(done=12, faulted=1, images=20, faulted_images=2, kudos=300.0)
    values = {"name": "my worker", "uptime_s": HOUR, "stats": stats}
    return Status(**{**values, **more})


def test_the_first_line_says_what_the_session_has_earned():
    assert status_lines(status())[0] == (
        "my worker: 60 min, 12 jobs done, 1 faulted; 20 images delivered, 2 faulted; 300 kudos, 300 an hour"
    )


def test_the_rate_is_of_the_time_the_worker_runs():
    assert status(uptime_s=HOUR / 2).kudos_per_hour == 600
    assert status(uptime_s=10.0).kudos_per_hour is None
    assert "an hour" not in status_lines(status(uptime_s=10.0))[0]


def test_each_engine_has_a_line():
    engines = [
        EngineLine(1, "GPU 0", "working", memory_bytes=3 * GIB, doing="job 9755d4c1 of Deliberate, 512x512, 40%"),
        EngineLine(2, "GPU 1", "resting", restarts=3),
    ]
    assert status_lines(status(engines=engines))[1:3] == [
        "Engine 1 (GPU 0): working, job 9755d4c1 of Deliberate, 512x512, 40%, 3.0 GiB",
        "Engine 2 (GPU 1): resting, failed 3 times",
    ]


@pytest.mark.parametrize(
    ("more", "last"),
    [
        ({"pause": "3 jobs in a row were faulted", "idle_s": 600.0}, "No new jobs: 3 jobs in a row were faulted"),
        ({"idle_s": 600.0}, "No job in 10 min of asking."),
        ({"idle_s": 600.0, "passed_over": "3 want LoRAs."}, "No job in 10 min of asking. 3 want LoRAs."),
        ({"waiting": 2, "delivering": 1}, "Jobs: 2 waiting, 1 being checked and submitted"),
        ({"facts": ["2 of 3 models are here.", ""]}, "2 of 3 models are here."),
    ],
)
def test_the_last_line_says_why_nothing_comes_if_so(more, last):
    assert status_lines(status(**more))[-1] == last
