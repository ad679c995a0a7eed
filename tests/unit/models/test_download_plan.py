"""Models fetched in order, each served as soon as it is whole."""

import hashlib
from dataclasses import replace

import httpx
import pytest

from worker.errors import ConfigError
from worker.models import download_plan as supply_module
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose
from worker.models.disk.store import Store
from worker.models.download.downloader import Downloader
from worker.models.download_plan import fit_disk, plan_supply, repair, supply
from worker.workflows.types import Family


def record(name, url, content, **more):
    sha256 = hashlib.sha256(content).hexdigest()
    file = ModelFile(Purpose.CHECKPOINT, f"{name}.safetensors", "compvis", sha256, url, **more)
    return ModelRecord(name, Category.IMAGE, (file,), "stable_diffusion_1", Family.STABLE_DIFFUSION_1, size_on_disk=99)


@pytest.fixture
def whole(tmp_path, put):
    return put(tmp_path / "whole.safetensors").read_bytes()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "own")


async def run(store, records, then=lambda name: None):
    ready, failed = [], {}

    def arrived(record):
        ready.append(record.name)
        then(record.name)

    async with httpx.AsyncClient(trust_env=False) as http:
        downloader = Downloader(http, store.hashes, first_pause_s=0.0, reserve_bytes=0)
        await supply(
            store, records, downloader,
            on_ready=arrived,
            on_failed=lambda record, error: failed.update({record.name: str(error)}),
        )  # fmt: skip
    return ready, failed


async def test_models_come_in_order_what_is_there_first_and_a_failure_costs_only_itself(serve, store, put, whole):
    put(store.root / "compvis" / "c.safetensors")
    async with serve(whole) as server:
        server.faults = ["", "status:404"]
        records = [record(name, server.url, whole) for name in "abcd"]
        ready, failed = await run(store, records)
    assert ready == ["c", "a", "d"]
    assert list(failed) == ["b"]
    assert "404" in failed["b"]


async def test_a_model_that_comes_slowly_does_not_hold_up_the_others(serve, store, whole, monkeypatch):
    monkeypatch.setattr(supply_module, "PATIENCE_S", 0.0)
    async with serve(whole) as server:
        server.held = {"/slow"}
        records = [record("slow", f"{server.base}/slow", whole), record("quick", server.url, whole)]
        ready, _ = await run(store, records, then=lambda _: server.held.clear())
    assert ready == ["quick", "slow"]


async def test_a_defect_costs_only_the_model_it_happens_with(serve, store, whole, monkeypatch):
    plain = Downloader.fetch

    async def fetch(downloader, download):
        if download.target.stem == "a":
            raise AttributeError("no such thing")
        return await plain(downloader, download)

    monkeypatch.setattr(Downloader, "fetch", fetch)
    async with serve(whole) as server:
        ready, failed = await run(store, [record(name, server.url, whole) for name in "ab"])
    assert ready == ["b"]
    assert "no such thing" in failed["a"]


async def test_a_damaged_file_is_replaced(serve, store, put, whole):
    path = put(store.root / "compvis" / "a.safetensors", whole[:-2])
    async with serve(whole) as server:
        ready, _ = await run(store, [record("a", server.url, whole)])
    assert ready == ["a"]
    assert path.read_bytes() == whole


async def test_a_model_nobody_offers_is_named(store, whole):
    ready, failed = await run(store, [record("a", None, whole)])
    assert ready == []
    assert "no address" in failed["a"]


def test_the_plan_tells_sizes_and_room_and_each_file_once(store, put, whole):
    put(store.root / "compvis" / "there.safetensors")
    shared = record("a", "https://x/a", whole)
    unknown = replace(record("b", "https://x/b", whole), size_on_disk=None)
    orphan = record("c", None, whole)
    plan = plan_supply(store, [shared, shared, unknown, orphan, record("there", "https://x/t", whole)])
    assert (len(plan.downloads), plan.known_bytes, plan.unknown_files) == (2, 99, 1)
    assert "2 files" in str(plan)
    assert str(plan_supply(store, [])) == "nothing to download"


def test_what_fits_on_the_disk_is_taken_in_order_and_shared_files_count_once(store, whole, monkeypatch):
    monkeypatch.setattr(store, "free_bytes", lambda: 250)
    models = [record(name, f"https://x/{name}", whole) for name in "abc"]
    taken, refused = fit_disk(store, [models[0], models[0], *models], reserve_bytes=50)
    assert [each.name for each in taken] == ["a", "a", "a", "b"]
    assert list(refused) == ["c"]
    assert "0.0 GiB" in refused["c"]


async def test_a_file_the_engine_cant_read_is_set_aside_only_if_it_is_broken(store, put, whole):
    good = put(store.root / "compvis" / "a.safetensors")
    file = record("a", None, whole).files[0]
    await repair(store, file)
    assert good.exists()
    store.hashes.keep(good, file.sha256)
    good.write_bytes(whole[:-1] + b"?")
    await repair(store, file)
    assert not good.exists()
    assert good.with_name("a.safetensors.broken").exists()
    await repair(store, file)


async def test_a_broken_file_in_a_folder_that_is_only_read_is_left_to_its_owner(tmp_path, put, whole):
    path = put(tmp_path / "other" / "compvis" / "a.safetensors", b"junk")
    with pytest.raises(ConfigError, match="only read"):
        await repair(Store(tmp_path / "own", [tmp_path / "other"]), record("a", None, whole).files[0])
    assert path.exists()
