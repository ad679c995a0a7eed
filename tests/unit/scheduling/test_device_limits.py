"""Which models go into one pop together."""

import pytest

from worker.scheduling.device_limits import Assortment, Limit, stick, tightest, withheld

FULL = 2048 * 2048


def card(limits: dict[str, int], *, models: tuple[str, ...] = ("a", "b", "c"), max_pixels: int = FULL) -> Assortment:
    return Assortment(
        models, {model: Limit(pixels, f"{model} on {pixels}") for model, pixels in limits.items()}, max_pixels
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


def test_what_one_card_can_do_is_not_withheld():
    assert withheld((card({"a": 0, "b": 0}), card({"a": 1}))) == {"a": "a on 0"}
    assert withheld((card({"a": 0, "b": 0}), card({"a": 1}, models=("a", "c")))) == {"a": "a on 0", "b": "b on 0"}
    assert withheld(()) == {}


def test_a_limit_below_what_is_useful_is_no_reason_when_the_owner_wants_as_little():
    assert card({}, max_pixels=32768).sizes() == {32768}


def test_of_several_limits_the_tightest_counts():
    assert tightest((None, Limit(5, "b"), Limit(3, "c"))) == Limit(3, "c")
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
