"""Counts and lists are written as people say them."""

import pytest

from worker.units import counted, listed


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (0.7, "1 job"), (1.4, "1 job"), (1200, "1200 jobs")]
)
def test_one_is_one_and_everything_else_is_many(count, text):
    assert counted(count, "job") == text


def test_of_many_the_first_are_named_and_the_others_counted():
    assert listed(("a", "b"), 2) == "a, b"
    assert listed(["a", "b", 3, 4], 2, separator="; ") == "a; b and 2 more"
    assert listed((), 2) == ""
