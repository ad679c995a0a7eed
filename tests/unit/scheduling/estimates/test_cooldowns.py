"""What engines can't do, learned from how they failed."""

import pytest

from worker.scheduling.estimates.cooldowns import Ceilings, Quarantine

MEGA = 1024 * 1024


def test_a_model_that_breaks_engines_in_a_row_is_set_aside_with_the_reason_and_comes_back():
    quarantine = Quarantine(limit=3, rest_s=100)
    assert [quarantine.failed("a", now, "it crashed") for now in (0, 1, 2)] == [False, False, True]
    limit = quarantine.limit_of("a", 50)
    assert limit is not None
    assert (limit.pixels, "it crashed" in limit.reason) == (0, True)
    assert quarantine.limit_of("b", 50) is None
    assert quarantine.limit_of("a", 102) is None


def test_a_success_between_forgives_what_was_before():
    quarantine = Quarantine(limit=2)
    quarantine.failed("a", 0, "…")
    quarantine.succeeded("a")
    assert not quarantine.failed("a", 1, "…")


def test_failures_long_ago_do_not_count():
    quarantine = Quarantine(limit=2, window_s=100)
    quarantine.failed("a", 0, "…")
    assert not quarantine.failed("a", 100, "…")
    assert quarantine.failed("a", 101, "…")


def test_who_fails_again_rests_longer_each_time_up_to_a_limit():
    quarantine = Quarantine(limit=1, rest_s=100, longest_rest_s=300)
    rests = []
    now = 0.0
    for _ in range(4):
        quarantine.failed("a", now, "…")
        rest = next(seconds for seconds in range(0, 1000, 50) if quarantine.limit_of("a", now + seconds) is None)
        rests.append(rest)
        now += rest
    assert rests == [100, 200, 300, 300]


@pytest.mark.parametrize(
    ("failures", "pixels", "images"),
    [
        ([(MEGA, 1)], 0.75, None),
        ([(MEGA, 1), (MEGA, 1)], 0.75, None),
        ([(MEGA, 1), (MEGA * 3 // 4, 1)], 0.5625, None),
        ([(MEGA, 4)], None, 3),
        ([(MEGA, 4), (MEGA, 3)], None, 2),
        ([(MEGA, 2), (MEGA, 1)], 0.75, 1),
    ],
)
def test_where_memory_ran_out_batches_shrink_first_then_pictures(failures, pixels, images):
    ceilings = Ceilings()
    for size, batch in failures:
        ceilings.ran_out("a", "cuda:0", 0.0, pixels=size, batch=batch)
    limit = ceilings.limit_of("a", "cuda:0", 1.0)
    assert (limit and limit.pixels) == (pixels and int(MEGA * pixels))
    assert ceilings.images("a", "cuda:0", 1.0) == images
    assert ceilings.limit_of("a", "cuda:1", 1.0) is None, "another card may have more"
    assert ceilings.images("a", "cuda:1", 1.0) is None


def test_what_was_learned_of_memory_is_forgotten_after_a_while():
    ceilings = Ceilings(lasts_s=100)
    ceilings.ran_out("a", "cuda:0", 0.0, pixels=MEGA, batch=1)
    ceilings.ran_out("a", "cuda:0", 0.0, pixels=MEGA, batch=2)
    assert ceilings.limit_of("a", "cuda:0", 99) is not None
    assert ceilings.limit_of("a", "cuda:0", 100) is None
    assert ceilings.images("a", "cuda:0", 100) is None
