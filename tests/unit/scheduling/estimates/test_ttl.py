"""What fits into the time the Horde gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.scheduling.estimates.ttl import SHARE, STEPS, TimeLimits, ttl_s
from worker.workflows.types import Family

SD1, FLUX = Family.STABLE_DIFFUSION_1, Family.FLUX_1
MEGA = 1024 * 1024


@pytest.mark.parametrize(
    ("pixels", "steps", "family", "extra_slow", "expected"),
    [
        (512 * 512, 30, SD1, False, 150),
        (MEGA, 30, SD1, False, 270),
        (MEGA, 50, SD1, False, 430),
        (4 * MEGA, 30, SD1, False, 990),
        (MEGA, 4, FLUX, False, 186),
        (MEGA, 30, FLUX, False, 810),
        (512 * 512, 10, SD1, True, 450),
    ],
)
def test_the_time_given_is_what_was_measured_on_the_server(pixels, steps, family, extra_slow, expected):
    assert ttl_s(pixels * steps / 1e6, family, extra_slow=extra_slow) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unit_s", "start_s", "most", "expected"),
    [
        (None, 0, 4 * MEGA, 4 * MEGA),  # nothing known
        (0.5, 0, 4 * MEGA, 4 * MEGA),  # a card
        (0.5, 200, 4 * MEGA, 0),  # busy for too long
        (10.0, 0, MEGA, 300_000),  # a processor: 90 s for 30 steps of 0.3 megapixels
        (10.0, 45, MEGA, 150_000),
        (10.0, 0, 100_000, 100_000),
    ],
)
def test_pictures_are_as_large_as_can_be_made_in_time(unit_s, start_s, most, expected):
    assert TimeLimits(SD1, unit_s, start_s).largest_pixels(most) == pytest.approx(expected, abs=1)


def test_a_requester_who_agreed_to_wait_gets_larger_pictures_of_a_slow_machine():
    slow = TimeLimits(SD1, 10.0, 0.0).largest_pixels(4 * MEGA)
    assert TimeLimits(SD1, 10.0, 0.0, extra_slow=True).largest_pixels(4 * MEGA) > 2 * slow


@pytest.mark.parametrize(
    ("family", "unit_s", "start_s", "pixels", "expected"),
    [
        (SD1, None, 0, MEGA, 1),  # nothing known
        (SD1, 0.2, 0, 512 * 512, 20),
        (SD1, 2.0, 0, 512 * 512, 5),  # 16 s each of 90 s
        (SD1, 2.0, 45, 512 * 512, 2),
        (SD1, 2.0, 500, 512 * 512, 1),
        (FLUX, 4.0, 0, MEGA, 3),  # 126 s each of 486 s
    ],
)
def test_a_batch_is_as_large_as_can_be_made_in_its_one_time(family, unit_s, start_s, pixels, expected):
    assert TimeLimits(family, unit_s, start_s).most_images(pixels, 20) == expected


@given(
    family=st.sampled_from(list(Family)),
    unit_s=st.floats(0.01, 100),
    start_s=st.floats(0, 200),
    most=st.integers(256 * 256, 4 * MEGA),
    share=st.floats(0.001, 1.0),
)
def test_whatever_is_within_the_limits_is_done_in_its_share_of_the_time(family, unit_s, start_s, most, share):
    limits = TimeLimits(family, unit_s, start_s)
    pixels = limits.largest_pixels(most)
    assert 0 <= pixels <= most
    if not pixels:
        return
    images = limits.most_images(pixels, 20)
    work = pixels * share * STEPS / 1e6
    limit_s = SHARE * ttl_s(work, family) * 1.001 + 0.1
    assert start_s + unit_s * work <= limit_s
    if images > 1:
        assert start_s + images * unit_s * work <= limit_s
