"""Which size's turn it is, and what may come meanwhile."""

import pytest

from worker.scheduling.max_pixels_rotation import KEEP_S, PATIENCE_S, STORED_S, Sizes

FULL = 1024 * 1024


def turns(sizes: Sizes, of: set[int], now: float, *, most: int = FULL, fruitful: bool = True) -> int:
    sizes.turn(of, most, now, fruitful=fruitful)
    return sizes.current


def test_whatever_was_named_lately_may_come_and_nothing_else():
    sizes = Sizes()
    sizes.name(FULL, 0.0)
    sizes.name(FULL // 2, STORED_S / 2)
    assert sizes.reach(FULL // 4, STORED_S - 1.0) == FULL
    assert sizes.reach(FULL // 4, STORED_S) == FULL // 2
    assert sizes.reach(FULL // 4, 2 * STORED_S) == FULL // 4
    assert sizes.reach(2 * FULL, 2 * STORED_S) == 2 * FULL


@pytest.mark.parametrize(("fruitful", "kept_s"), [(True, KEEP_S), (False, PATIENCE_S)])
def test_sizes_have_turns_from_the_largest_to_the_smallest_longer_while_they_bring_jobs(fruitful, kept_s):
    sizes, of = Sizes(), {FULL // 4, FULL, FULL // 2}
    found = [turns(sizes, of, share * kept_s, fruitful=fruitful) for share in (0.0, 0.9, 1.0, 1.9, 2.0, 3.0)]
    assert found == [FULL, FULL, FULL // 2, FULL // 2, FULL // 4, FULL]


def test_a_size_keeps_its_turn_until_the_horde_has_long_known_it():
    assert 2 * STORED_S <= PATIENCE_S <= KEEP_S


def test_a_size_that_nothing_can_do_any_more_ends_at_once_and_one_that_is_no_longer_needed_when_its_time_is_over():
    sizes = Sizes()
    assert turns(sizes, {FULL}, 0.0) == FULL
    assert turns(sizes, {FULL // 4}, 1.0) == FULL // 4
    assert turns(sizes, {FULL}, 2.0) == FULL // 4
    assert turns(sizes, {FULL}, 1.0 + KEEP_S) == FULL


def test_another_limit_of_the_owners_holds_at_once():
    sizes = Sizes()
    turns(sizes, {FULL}, 0.0)
    assert turns(sizes, {FULL // 2}, 1.0, most=FULL // 2) == FULL // 2
    assert turns(sizes, {2 * FULL, FULL // 2}, 2.0, most=2 * FULL) == 2 * FULL


def test_a_turn_that_comes_back_to_the_same_size_does_not_hold_up_another():
    sizes = Sizes()
    turns(sizes, {FULL // 2}, 0.0)
    turns(sizes, {FULL // 2}, KEEP_S)
    assert turns(sizes, {FULL, FULL // 2}, KEEP_S + 1.0) == FULL
