"""LoRAs and textual inversions on disk: which belong to the owner, and which are deleted to make room."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.models.disk.store import Store
from worker.models.loras.civitai import Kind
from worker.models.loras.lora_cache import (
    GRACE_S,
    MAX_PART_AGE_S,
    CachedFile,
    choose_evictions,
    make_room,
    mark_used,
    purge_unknown,
)

NOW_S = 10_000.0


@pytest.fixture
def store(tmp_path, put):
    for name in ("GlowingRunes_70.safetensors", "_71.safetensors", "my own char.safetensors", "notes.txt"):
        put(tmp_path / "lora" / name)
    put(tmp_path / "lora" / "GlowingRunes_70.sha256", b"x")
    return Store(tmp_path)


def names(store):
    return {path.name for path in (store.root / "lora").glob("*.safetensors")}


def test_a_purge_leaves_every_lora_that_was_fetched_for_a_job_whoever_fetched_it(store):
    assert [path.name for path in purge_unknown(store)] == ["my own char.safetensors"]
    assert names(store) == {"GlowingRunes_70.safetensors", "_71.safetensors"}


def test_only_what_was_fetched_makes_room_and_that_is_said(store, said):
    now_s = (store.root / "lora" / "_71.safetensors").stat().st_atime + 2 * GRACE_S
    make_room(store, Kind.LORA, 1, 1, now_s)
    assert names(store) == {"my own char.safetensors"}
    assert sorted(said) == [
        "GlowingRunes_70.safetensors was deleted to make room for others",
        "_71.safetensors was deleted to make room for others",
    ]


def test_a_purge_does_not_say_that_room_was_made(store, said):
    purge_unknown(store)
    assert said == []


def test_the_beginning_of_a_file_counts_in_the_budget_and_goes_when_it_is_old(store, put):
    part = put(store.root / "lora" / "big_5.safetensors.part", b"x" * 1000)
    note = put(store.root / "lora" / "big_5.safetensors.part.json", b"{}")
    now_s = part.stat().st_mtime + GRACE_S + 1
    os.utime(part, (now_s, now_s - GRACE_S - 1))
    for path in (store.root / "lora").glob("*_7?.safetensors"):
        os.utime(path, (now_s, now_s))
    make_room(store, Kind.LORA, 1, 10**6, now_s)
    assert part.exists()
    make_room(store, Kind.LORA, 1, 1000, now_s)
    assert not part.exists()
    assert not note.exists()
    put(part, b"x")
    make_room(store, Kind.LORA, 1, 10**6, part.stat().st_mtime + MAX_PART_AGE_S + 1)
    assert not part.exists()


def test_files_dated_by_a_clock_that_was_ahead_make_room_too(store, put):
    part = put(store.root / "lora" / "big_5.safetensors.part", b"x")
    year_s, used = 365 * 86400, store.root / "lora" / "_71.safetensors"
    now_s = used.stat().st_mtime
    for path in (part, store.root / "lora" / "GlowingRunes_70.safetensors", used):
        os.utime(path, (now_s + year_s, now_s + year_s))
    os.utime(used, (now_s, now_s + year_s))
    make_room(store, Kind.LORA, 1, 1, now_s)
    assert not part.exists()
    assert names(store) == {"my own char.safetensors", "_71.safetensors"}


def test_a_use_is_noted_and_the_age_of_the_file_stays(store):
    path = store.root / "lora" / "_71.safetensors"
    os.utime(path, (100, 100))
    mark_used(path)
    assert path.stat().st_mtime == 100
    assert path.stat().st_atime > 100


def file(name, size, last_used_s=0.0):
    return CachedFile(Path(name), size, last_used_s)


def names_of(chosen):
    return [each.path.name for each in chosen]


def test_within_the_budget_nothing_goes():
    assert choose_evictions([file("a", 5), file("b", 5)], 10, NOW_S) == ()


def test_the_least_recently_used_goes_first_and_no_more_than_needed():
    files = [file("new", 4, 300), file("old", 4, 100), file("mid", 4, 200)]
    assert names_of(choose_evictions(files, 8, NOW_S)) == ["old"]
    assert names_of(choose_evictions(files, 8, NOW_S, needed_bytes=1)) == ["old", "mid"]


def test_just_used_files_stay_whatever_the_budget():
    files = [file("hot", 9, NOW_S - 1), file("cold", 1)]
    assert names_of(choose_evictions(files, 0, NOW_S)) == ["cold"]


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
