"""Which models go into one pop together."""

import pytest

from worker.scheduling.device_limits import (
    DeviceLimits,
    MaxPixelsRotation,
    RotationTimes,
    SizeLimit,
    stick,
    tightest,
    withdrawn_everywhere,
)

FULL = 2048 * 2048
LARGE = 1024 * 1024
TIMES = RotationTimes()
STORED_S, FRUITFUL_TURN_S, FRUITLESS_TURN_S = TIMES.stored_s, TIMES.fruitful_turn_s, TIMES.fruitless_turn_s


def card(limits: dict[str, int], *, models: tuple[str, ...] = ("a", "b", "c"), max_pixels: int = FULL) -> DeviceLimits:
    return DeviceLimits(
        models, {model: SizeLimit(pixels, f"{model} on {pixels}") for model, pixels in limits.items()}, max_pixels
    )


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, {FULL: "abc"}),
        ({"b": FULL}, {FULL: "abc"}),
        ({"b": 0}, {FULL: "ac"}),
        ({"b": FULL // 2 + 5}, {FULL: "ac", FULL // 2: "abc"}),
        ({"a": FULL // 5, "b": FULL // 2}, {FULL: "c", FULL // 2: "bc", FULL // 8: "abc"}),
        ({"a": 0, "b": 100, "c": 0}, {}),
    ],
)
def test_sizes_are_halves_of_the_largest_each_with_all_models_that_can_do_it(limits, expected):
    found = card(limits)
    assert {size: "".join(found.able(size)) for size in found.sizes()} == expected


def test_nothing_can_be_done_up_to_more_than_the_owner_allows():
    assert card({}).able(FULL + 1) == ()


def test_a_model_that_can_do_hardly_anything_is_withdrawn_with_the_reason():
    found = card({"a": 0, "b": FULL // 2, "c": 10_000})
    assert found.withdrawn() == {"a": "a on 0", "c": "c on 10000"}
    assert found.able(1) == ("b",)


def test_what_one_card_can_do_is_not_withdrawn_everywhere():
    assert withdrawn_everywhere((card({"a": 0, "b": 0}), card({"a": 1}))) == {"a": "a on 0"}
    assert withdrawn_everywhere((card({"a": 0, "b": 0}), card({"a": 1}, models=("a", "c")))) == {
        "a": "a on 0",
        "b": "b on 0",
    }
    assert withdrawn_everywhere(()) == {}


def test_a_limit_below_what_is_useful_is_no_reason_when_the_owner_wants_as_little():
    assert card({}, max_pixels=32768).sizes() == {32768}


def test_of_several_limits_the_tightest_counts():
    assert tightest((None, SizeLimit(5, "b"), SizeLimit(3, "c"))) == SizeLimit(3, "c")
    assert tightest((None, None)) is None


@pytest.mark.parametrize(
    ("resident", "stickiness", "roll", "expected"),
    [
        ({"b"}, 0.0, 0.0, ("a", "b", "c")),
        ({"b"}, 0.5, 0.4, ("b",)),
        ({"b"}, 0.5, 0.6, ("a", "b", "c")),
        ({"c", "a"}, 1.0, 0.99, ("a", "c")),
        ({"x"}, 1.0, 0.0, ("a", "b", "c")),
        ((), 1.0, 0.0, ("a", "b", "c")),
    ],
)
def test_models_in_memory_are_offered_alone_as_often_as_the_owner_wants(resident, stickiness, roll, expected):
    assert stick(("a", "b", "c"), resident, stickiness=stickiness, roll=roll) == expected


# Whose turn it is among several sizes


def turns(sizes: MaxPixelsRotation, of: set[int], now: float, *, most: int = LARGE, fruitful: bool = True) -> int:
    sizes.advance(of, most, now, fruitful=fruitful)
    return sizes.current


def test_whatever_was_named_lately_may_come_and_nothing_else():
    sizes = MaxPixelsRotation()
    sizes.note_sent(LARGE, 0.0)
    sizes.note_sent(LARGE // 2, STORED_S / 2)
    assert sizes.largest_in_force(LARGE // 4, STORED_S - 1.0) == LARGE
    assert sizes.largest_in_force(LARGE // 4, STORED_S) == LARGE // 2
    assert sizes.largest_in_force(LARGE // 4, 2 * STORED_S) == LARGE // 4
    assert sizes.largest_in_force(2 * LARGE, 2 * STORED_S) == 2 * LARGE


@pytest.mark.parametrize(("fruitful", "kept_s"), [(True, FRUITFUL_TURN_S), (False, FRUITLESS_TURN_S)])
def test_sizes_have_turns_from_the_largest_to_the_smallest_longer_while_they_bring_jobs(fruitful, kept_s):
    sizes, of = MaxPixelsRotation(), {LARGE // 4, LARGE, LARGE // 2}
    found = [turns(sizes, of, share * kept_s, fruitful=fruitful) for share in (0.0, 0.9, 1.0, 1.9, 2.0, 3.0)]
    assert found == [LARGE, LARGE, LARGE // 2, LARGE // 2, LARGE // 4, LARGE]


def test_a_size_keeps_its_turn_until_the_horde_has_long_known_it():
    assert 2 * STORED_S <= FRUITLESS_TURN_S <= FRUITFUL_TURN_S


def test_a_size_that_nothing_can_do_any_more_ends_at_once_and_one_that_is_no_longer_needed_when_its_time_is_over():
    sizes = MaxPixelsRotation()
    assert turns(sizes, {LARGE}, 0.0) == LARGE
    assert turns(sizes, {LARGE // 4}, 1.0) == LARGE // 4
    assert turns(sizes, {LARGE}, 2.0) == LARGE // 4
    assert turns(sizes, {LARGE}, 1.0 + FRUITFUL_TURN_S) == LARGE


def test_another_limit_of_the_owners_holds_at_once():
    sizes = MaxPixelsRotation()
    turns(sizes, {LARGE}, 0.0)
    assert turns(sizes, {LARGE // 2}, 1.0, most=LARGE // 2) == LARGE // 2
    assert turns(sizes, {2 * LARGE, LARGE // 2}, 2.0, most=2 * LARGE) == 2 * LARGE


def test_a_turn_that_comes_back_to_the_same_size_does_not_hold_up_another():
    sizes = MaxPixelsRotation()
    turns(sizes, {LARGE // 2}, 0.0)
    turns(sizes, {LARGE // 2}, FRUITFUL_TURN_S)
    assert turns(sizes, {LARGE, LARGE // 2}, FRUITFUL_TURN_S + 1.0) == LARGE
