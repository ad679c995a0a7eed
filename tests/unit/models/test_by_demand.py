"""What is wanted on disk while demand chooses what is offered."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.models.catalog.test_model_commands import MODELS
from worker.config.schema import BridgeData
from worker.models.by_demand import Wanted, wanted_by_demand
from worker.models.catalog.model_selection import choose
from worker.models.catalog.records import Category
from worker.models.catalog.reference import Reference
from worker.models.model_manager import NO_MODELS

#: Alpha, Beta, Epsilon, All Saints, Top 10 Picks are of one family, Gamma of another.
FIVE = ("Alpha", "Beta", "Epsilon", "All Saints", "Top 10 Picks")


def wanted(*load: str, here: Any = (), granted: Any = (), skip: Any = (), **config: Any) -> Wanted:
    data = BridgeData.model_validate(
        {"models_to_load": list(load), "models_to_skip": list(skip), "dynamic_models": True, **config}
    )
    selection = choose(data, Reference({Category.IMAGE: MODELS}, {}), NO_MODELS, month=None)
    return wanted_by_demand(data, selection, lambda each: each.name in here, granted=granted)


def test_without_the_choice_everything_is_wanted() -> None:
    for off in ({"dynamic_models": False}, {"number_of_dynamic_models": 0}):
        found = wanted("ALL SD15", here={"Gamma"}, **off)
        assert (found.selection.resolution.load, found.absent) == (FIVE, ())


def test_at_first_only_named_models_and_as_many_others_as_are_offered_are_fetched() -> None:
    found = wanted("Gamma", "ALL SD15", number_of_dynamic_models=2)
    assert found.selection.resolution.load == ("Gamma", "Alpha", "Beta")
    assert found.absent == FIVE[2:]


def test_what_is_on_disk_may_be_offered_whether_it_is_listed_or_not_unless_it_is_skipped() -> None:
    here = {"Gamma", "Delta", "Newer", "Beta", "Epsilon"}
    found = wanted("Alpha", "ALL SD15", here=here, skip=["Beta"])
    assert found.selection.resolution.load == ("Alpha", "Epsilon", "Gamma"), "no large one, none for a newer engine"
    assert found.absent == ("All Saints", "Top 10 Picks")


def test_what_demand_asked_for_is_fetched_beside_what_is_here() -> None:
    assert wanted("ALL SD15", here={"Alpha"}).absent == FIVE[1:]
    one = wanted("ALL SD15", here={"Alpha"}, granted={"Epsilon", "Gamma"})
    assert (one.selection.resolution.load, one.absent) == (("Alpha", "Epsilon"), ("Beta", "All Saints", "Top 10 Picks"))


def test_the_owners_bound_holds_and_named_models_count_and_come_all_the_same() -> None:
    named = wanted("Gamma", "Alpha", "ALL SD15", max_models_to_download=1)
    assert named.selection.resolution.load == ("Gamma", "Alpha")


def test_where_the_bound_leaves_nothing_to_offer_that_is_said() -> None:
    found = wanted("ALL SD15", max_models_to_download=0)
    assert found.selection.records == ()
    assert "max_models_to_download" in found.selection.warnings[-1]
    assert wanted("ALL SD15", here={"Gamma"}, max_models_to_download=0).selection.warnings == ()


names = st.frozensets(st.sampled_from(sorted(MODELS)))


@given(
    st.lists(st.sampled_from(["Gamma", "Alpha", "ALL SD15", "ALL", "nobody's"]), max_size=3),
    st.fixed_dictionaries({"here": names, "granted": names}),
    st.integers(1, 20),
    st.integers(0, 20),
)
def test_unasked_never_more_than_the_bound_is_fetched_and_nothing_twice(load, sets, number, bound) -> None:
    found = wanted(*load, **sets, number_of_dynamic_models=number, max_models_to_download=bound)
    chosen, named = found.selection.resolution.load, found.selection.resolution.named
    unasked = [name for name in chosen if name not in {*sets["here"], *sets["granted"], *named}]
    assert len(set(chosen)) == len(chosen)
    assert named <= set(chosen)
    assert not unasked or len(chosen) <= bound
    assert not set(found.absent) & {*chosen, *sets["here"]}
