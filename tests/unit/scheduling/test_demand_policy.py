"""Which models are offered by what is asked for: the pure choice, and what holds for any course of demand."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.horde.demand import Asked
from worker.scheduling.demand_policy import LEAST_WORTH, ChoiceTimes, Worth, choose, passed_over, worth

TIMES = ChoiceTimes()
NAMES = tuple("abcdefgh")
LONG_AGO = float("-inf")


def chosen(
    candidates: str, worths: Mapping[str, float], served: Mapping[str, float] | None = None, *, most: int = 1,
    now: float = 0.0,
) -> dict[str, float]:  # fmt: skip
    return choose(tuple(candidates), lasting(worths), served or {}, most=most, now=now, times=TIMES)


def lasting(worths: Mapping[str, float]) -> dict[str, Worth]:
    """The same at both looks."""
    return {name: Worth(good, good) for name, good in worths.items()}


def test_with_nothing_known_the_first_of_the_owners_list_are_offered() -> None:
    assert list(chosen("cab", {}, most=2)) == ["c", "a"]


def test_what_was_taken_for_want_of_better_gives_way_at_once() -> None:
    first = chosen("ab", {})
    assert chosen("ab", {"b": 3.0}, first, now=1.0) == {"b": 1.0}


def test_the_models_with_most_to_do_are_offered() -> None:
    assert set(chosen("abcd", {"a": 1.0, "b": 9.0, "c": 4.0}, most=2)) == {"b", "c"}


def test_a_model_that_is_asked_for_keeps_its_place_for_a_while_however_much_others_are() -> None:
    served = {"a": 0.0}
    assert chosen("ab", {"a": 1.0, "b": 99.0}, served, now=TIMES.stay_s - 1) == served
    assert chosen("ab", {"a": 1.0, "b": 99.0}, served, now=TIMES.stay_s) == {"b": TIMES.stay_s}


def test_a_model_that_nothing_waits_for_gives_way_sooner_but_not_at_once() -> None:
    served = {"a": 0.0}
    assert chosen("ab", {"b": 2.0}, served, now=TIMES.useless_stay_s - 1) == served
    assert list(chosen("ab", {"b": 2.0}, served, now=TIMES.useless_stay_s)) == ["b"]


@pytest.mark.parametrize(("served", "other"), [(3.0, 5.9), (0.0, LEAST_WORTH / 2)])
def test_without_a_clear_gain_nothing_changes(served: float, other: float) -> None:
    assert chosen("ab", {"a": served, "b": other}, {"a": LONG_AGO}) == {"a": LONG_AGO}


def test_where_nothing_is_asked_for_the_choice_stays() -> None:
    assert chosen("abcd", {}, {"c": 5.0}, now=1e6) == {"c": 5.0}


def test_models_that_went_make_room_and_a_smaller_number_drops_the_least_asked_for() -> None:
    assert list(chosen("ab", {}, {"gone": 0.0})) == ["a"]
    assert list(chosen("abc", {"a": 1.0, "b": 2.0}, {"a": 0.0, "b": 0.0, "c": 0.0}, most=1)) == ["b"]
    assert chosen("abc", {"a": 1.0}, {"a": 0.0}, most=0) == {}


def test_a_larger_number_than_there_are_models_offers_all_of_them() -> None:
    assert set(chosen("abc", {"a": 5.0}, most=1000)) == set("abc")


def test_what_waits_at_one_look_alone_may_replace_nothing_but_not_what_is_useful() -> None:
    burst = {"b": Worth(9.0, 0.0)}
    assert list(choose("ab", burst, {"a": 0.0}, most=1, now=1000.0, times=TIMES)) == ["b"]
    useful = {**burst, "a": Worth(1.0, 1.0)}
    assert list(choose("ab", useful, {"a": 0.0}, most=1, now=1000.0, times=TIMES)) == ["a"]


def test_jobs_are_shared_with_the_threads_of_others_and_what_came_counts() -> None:
    assert worth(Asked(12.0, 3.0, 8.0)) == Worth(3.0, 2.0)
    assert worth(Asked(12.0, 3.0, 12.0), own_threads=3.0) == Worth(12.0, 12.0)
    assert worth(Asked(0.0, 9.0, 0.0), brought=4) == worth(None, brought=4) == Worth(4.0, 4.0)
    assert worth(Asked(2.0, 1.0, 2.0), own_threads=8.0) == Worth(2.0, 2.0), "the Horde's count may be older than ours"


def test_only_models_that_were_offered_all_the_while_and_wait_in_vain_are_passed_over() -> None:
    served, now = {"a": 0.0, "b": 900.0, "c": 0.0}, 1000.0
    worths = lasting({"a": 5.0, "b": 5.0})
    assert passed_over(served, worths, in_vain_s=TIMES.in_vain_s, now=now, times=TIMES) == ["a"]
    assert passed_over(served, worths, in_vain_s=TIMES.in_vain_s - 1, now=now, times=TIMES) == ()


figures = st.floats(min_value=0.0, max_value=1e6)
looks = st.lists(
    st.tuples(
        st.floats(min_value=-300.0, max_value=900.0),
        st.dictionaries(st.sampled_from(NAMES), figures),
        st.lists(st.sampled_from(NAMES), unique=True),
        st.integers(min_value=0, max_value=10),
    ),
    max_size=40,
)


@given(looks)
def test_never_more_than_allowed_only_candidates_and_every_place_is_taken(course) -> None:
    served: dict[str, float] = {}
    now = 0.0
    for step, worths, candidates, most in course:
        now += step
        served = choose(candidates, lasting(worths), served, most=most, now=now, times=TIMES)
        assert len(served) == min(most, len(candidates))
        assert served.keys() <= set(candidates)
        assert all(since <= now for since in served.values())


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), figures), max_size=60), st.integers(1, 4))
def test_it_never_thrashes_whatever_is_asked_for(course, most: int) -> None:
    """Looks ten seconds apart: a place changes hands at most once in the shortest stay, after the first choice."""
    served: dict[str, float] = {}
    joined: list[float] = []
    for number, worths in enumerate(course):
        now = 10.0 * number
        before, served = served, choose(NAMES, lasting(worths), served, most=most, now=now, times=TIMES)
        joined += [now for name in served if name not in before and before]
    # Those that were there for want of better may all give way to the first that are asked for.
    later = joined[most:]
    for start in later:
        assert sum(start <= at < start + TIMES.useless_stay_s for at in later) <= most


@given(st.dictionaries(st.sampled_from(NAMES), figures), st.integers(1, 4), st.floats(0.0, 1e7))
def test_the_same_demand_again_changes_nothing(worths, most: int, later: float) -> None:
    served = choose(NAMES, lasting(worths), {}, most=most, now=0.0, times=TIMES)
    assert choose(NAMES, lasting(worths), served, most=most, now=later, times=TIMES).keys() == served.keys()
