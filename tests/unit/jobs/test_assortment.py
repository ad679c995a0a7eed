"""Which models go into one pop together."""

import pytest

from worker.jobs.assortment import Limit, Shelf, arrange, stick, tightest, withdrawn

FULL = 2048 * 2048


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [Shelf(FULL, ("a", "b", "c"))]),
        ({"b": FULL}, [Shelf(FULL, ("a", "b", "c"))]),
        ({"b": 0}, [Shelf(FULL, ("a", "c"))]),
        ({"b": FULL // 2 + 5}, [Shelf(FULL, ("a", "c")), Shelf(FULL // 2, ("a", "b", "c"))]),
        (
            {"a": FULL // 5, "b": FULL // 2},
            [Shelf(FULL, ("c",)), Shelf(FULL // 2, ("b", "c")), Shelf(FULL // 8, ("a", "b", "c"))],
        ),
        ({"a": 0, "b": 100, "c": 0}, []),
    ],
)
def test_models_of_one_size_stand_together_and_smaller_sizes_have_all_that_can_do_them(limits, expected):
    given = {model: Limit(pixels, "…") for model, pixels in limits.items()}
    assert arrange(("a", "b", "c"), given, FULL) == expected


def test_a_model_that_can_do_hardly_anything_is_withdrawn_with_the_reason():
    limits = {"a": Limit(0, "broken"), "b": Limit(FULL // 2, "slow"), "c": Limit(10_000, "tiny")}
    assert withdrawn(limits, FULL) == {"a": "broken", "c": "tiny"}


def test_a_limit_below_what_is_useful_is_no_reason_when_the_owner_wants_as_little():
    assert arrange(("a",), {}, 32768) == [Shelf(32768, ("a",))]


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
