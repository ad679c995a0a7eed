"""Spans of time for people."""

import asyncio

import pytest

from worker.clock import duration, including_sleep, monotonic


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119.4, "119 s"), (119.6, "2 min"), (3600, "60 min"), (7199, "2.0 h"), (90000, "25.0 h")],
)
def test_a_span_is_told_in_the_unit_that_people_would_use(seconds, text):
    assert duration(seconds) == text


async def test_the_worker_and_its_event_loop_go_by_one_clock():
    before = monotonic()
    assert before <= asyncio.get_running_loop().time() <= monotonic()


def test_the_clock_that_counts_sleep_never_goes_back():
    assert including_sleep() <= including_sleep()
