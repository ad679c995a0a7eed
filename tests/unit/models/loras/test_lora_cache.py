"""LoRAs and textual inversions on disk: which are the owner's, and which may go."""

import pytest

from worker.models.disk.eviction import GRACE_S
from worker.models.disk.store import Store
from worker.models.loras.civitai import Kind
from worker.models.loras.lora_cache import make_room, purge_unknown


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
        "GlowingRunes_70.safetensors made room for others",
        "_71.safetensors made room for others",
    ]


def test_a_purge_does_not_say_that_room_was_made(store, said):
    purge_unknown(store)
    assert said == []
