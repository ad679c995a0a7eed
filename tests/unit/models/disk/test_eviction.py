"""Which cached files make room."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from worker.models.disk.eviction import CachedFile, choose_evictions

NOW_S = 10_000.0


def file(name, size, last_used_s=0.0):
    return CachedFile(Path(name), size, last_used_s)


def names(chosen):
    return [each.path.name for each in chosen]


def test_within_the_budget_nothing_goes():
    assert choose_evictions([file("a", 5), file("b", 5)], 10, NOW_S) == ()


def test_the_least_recently_used_goes_first_and_no_more_than_needed():
    files = [file("new", 4, 300), file("old", 4, 100), file("mid", 4, 200)]
    assert names(choose_evictions(files, 8, NOW_S)) == ["old"]
    assert names(choose_evictions(files, 8, NOW_S, needed_bytes=1)) == ["old", "mid"]


def test_just_used_files_stay_whatever_the_budget():
    files = [file("hot", 9, NOW_S - 1), file("cold", 1)]
    assert names(choose_evictions(files, 0, NOW_S)) == ["cold"]


@given(
    st.lists(st.builds(file, st.text("abc", min_size=1), st.integers(0, 50), st.floats(0, NOW_S)), max_size=8),
    st.integers(0, 200),
    st.integers(0, 50),
)
def test_what_goes_suffices_unless_nothing_more_may_go(files, budget, needed):
    chosen = choose_evictions(files, budget, NOW_S, needed_bytes=needed, grace_s=0)
    left = sum(each.size for each in files) - sum(each.size for each in chosen) + needed
    assert left <= budget or len(chosen) == len(files)
    assert not chosen or left + chosen[-1].size > budget
