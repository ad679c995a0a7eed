"""Which files are wanted and missing, what fits on the disk, and models fetched in order."""

import hashlib
from dataclasses import replace

import httpx
import pytest

from worker.config.schema import BridgeData
from worker.errors import ConfigError
from worker.models import download_plan
from worker.models.catalog.custom import CustomModels
from worker.models.catalog.model_selection import choose
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose
from worker.models.catalog.reference import Reference, read_folder
from worker.models.disk.store import Store
from worker.models.download.downloader import Downloader
from worker.models.download_plan import (
    as_model_file,
    auxiliary_records,
    fetch_planned,
    plan_downloads,
    repair,
    unlisted_files,
    wanted_files,
)
from worker.models.installed import InstalledModels
from worker.workflows.auxiliary_files import AESTHETIC, ANNOTATORS, UPSCALERS, controlnets
from worker.workflows.families import TRAITS
from worker.workflows.types import Family

SD1, SDXL = Family.STABLE_DIFFUSION_1, Family.STABLE_DIFFUSION_XL
QR_SD1, QR_SDXL = (file for family in (SD1, SDXL) if (file := TRAITS[family].qr_controlnet))
[LAYERS_SDXL] = filter(None, [TRAITS[SDXL].layer_diffuse])


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


def planned(store, records, auxiliary=(), reserve_bytes=0):
    models = {record: store.missing(record) for record in records}
    return plan_downloads(store, models, auxiliary, reserve_bytes=reserve_bytes)


async def run(store, records, then=lambda name: None):
    ready, failed = [], {}

    def arrived(record):
        ready.append(record.name)
        then(record.name)

    async with httpx.AsyncClient(trust_env=False) as http:
        downloader = Downloader(http, store.hashes, first_pause_s=0.0, reserve_bytes=0)
        await fetch_planned(
            store, planned(store, records), downloader,
            on_ready=arrived,
            on_failed=lambda record, error: failed.update({record.name: str(error)}),
        )  # fmt: skip
    return ready, failed


async def test_models_come_in_order_and_a_failure_costs_only_itself(serve, store, put, whole):
    put(store.root / "compvis" / "c.safetensors")
    async with serve(whole) as server:
        server.faults = ["", "status:404"]
        records = [record(name, server.url, whole) for name in "abcd"]
        ready, failed = await run(store, records)
    assert ready == ["a", "d"]
    assert list(failed) == ["b"]
    assert "404" in failed["b"]


async def test_a_model_that_comes_slowly_does_not_hold_up_the_others(serve, store, whole, monkeypatch):
    monkeypatch.setattr(download_plan, "ALONE_S", 0.0)
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


def test_a_model_without_an_address_is_refused(store, whole):
    plan = planned(store, [record("a", None, whole)])
    assert plan.downloads == ()
    [error] = plan.refused.values()
    assert "no address" in error.message


def test_the_plan_tells_sizes_and_room_and_each_file_once(store, put, whole):
    put(store.root / "compvis" / "there.safetensors")
    first, unknown = record("a", "https://x/a", whole), replace(record("b", "https://x/b", whole), size_on_disk=None)
    shared = replace(first, name="shared")
    plan = planned(store, [first, shared, unknown, record("there", "https://x/t", whole)])
    assert (len(plan.downloads), plan.known_bytes, plan.unknown_files) == (2, 99, 1)
    assert "2 files" in str(plan)
    assert str(planned(store, [])) == "nothing to download"


def test_what_fits_on_the_disk_is_taken_in_order_and_the_rest_is_told_in_one_sentence(store, whole, monkeypatch):
    monkeypatch.setattr(store, "free_bytes", lambda: 250)
    models = [record(name, f"https://x/{name}", whole) for name in "abcdefgh"]
    plan = planned(store, [models[0], replace(models[0], name="a2"), *models[1:]], reserve_bytes=50)
    assert [each.name for each in plan.records] == ["a", "a2", "b"]
    assert [each.name for each in plan.refused] == ["c", "d", "e", "f", "g", "h"]
    assert "too little for c, d, e, f, g and 1 more. Free disk space" in plan.room_warning
    assert planned(store, models[:1]).room_warning == ""


def test_a_first_model_comes_before_the_auxiliary_files_and_those_before_the_other_models(store, put, whole):
    models = [record(name, f"https://x/{name}", whole) for name in "ab"]
    beside = record("upscaler", "https://x/u", whole)
    assert [each.name for each in planned(store, models, [beside]).records] == ["a", "upscaler", "b"]
    put(store.root / "compvis" / "a.safetensors")
    assert [each.name for each in planned(store, models, [beside]).records] == ["upscaler", "b"]


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


def wanted(*families, here=(), **allowed):
    return wanted_files(BridgeData.model_validate({"allow_img2img": True, **allowed}), families, here.__contains__)


def test_nothing_is_fetched_for_what_is_not_allowed():
    assert wanted(SD1, SDXL) == ()


def test_post_processing_brings_upscalers_face_fixers_and_the_background_remover():
    files = wanted(SDXL, allow_post_processing=True)
    assert set(UPSCALERS.values()) <= set(files)
    assert {"u2net.onnx", "detection_Resnet50_Final.pth"} <= {file.name for file in files}
    assert {file.folder for file in files} == {"esrgan", "gfpgan", "codeformer", "rembg"}


def networks(family):
    return {each.file for choices in controlnets(family).values() for each in choices}


def test_an_owners_controlnet_is_not_fetched_but_what_makes_its_maps_is():
    own = controlnets(Family.FLUX_1)["depth"][-1].file
    assert wanted(Family.FLUX_1, here=[own], allow_controlnet=True) == ANNOTATORS["depth"]


def test_controlnets_come_for_the_families_served_only():
    files = wanted(SD1, allow_controlnet=True)
    assert networks(SD1) <= set(files)
    assert not networks(Family.STABLE_DIFFUSION_2_768) & set(files)
    assert {file for name in controlnets(SD1) for file in ANNOTATORS[name]} <= set(files)
    assert QR_SD1 in files
    assert wanted(Family.FLUX_1, allow_controlnet=True) == ()


@pytest.mark.parametrize(("sdxl", "there"), [(False, set()), (True, {QR_SDXL, LAYERS_SDXL.model})])
def test_what_is_for_sdxl_needs_its_own_permission(sdxl, there):
    files = wanted(SDXL, allow_controlnet=True, allow_sdxl_controlnet=sdxl)
    assert {QR_SDXL, LAYERS_SDXL.model} & set(files) == there


def test_address_and_checksum_come_from_the_reference_where_it_lists_the_file():
    own = UPSCALERS["RealESRGAN_x4plus"]
    listed = ModelFile(Purpose.AUXILIARY, own.name, "esrgan", "a" * 64, "https://x/up.pth", 5)
    record = ModelRecord(own.listed_as[1], Category.ESRGAN, (listed,))
    reference = Reference({Category.ESRGAN: {record.name: record}}, {})
    assert as_model_file(own, reference) == listed
    assert as_model_file(own).url is None
    unlisted = UPSCALERS["4xNomos8kSC"]
    assert as_model_file(unlisted, reference).url == unlisted.url


def test_every_file_has_an_address_in_the_real_reference(model_lists):
    reference = read_folder(model_lists)
    files = wanted(*Family, allow_post_processing=True, allow_controlnet=True, allow_sdxl_controlnet=True)
    assert len(files) > 40
    assert [file.name for file in files if not as_model_file(file, reference).url] == []


def test_a_file_is_here_when_it_is_whole(tmp_path, put):
    file = LAYERS_SDXL.decoder
    assert not InstalledModels(Store(tmp_path), []).has(file)
    path = put(tmp_path / file.folder / file.name)
    assert InstalledModels(Store(tmp_path), []).has(file)
    path.write_bytes(path.read_bytes()[:-1])
    assert not InstalledModels(Store(tmp_path), []).has(file)


def test_models_of_sd15_alone_bring_the_file_of_qr_codes_that_the_highest_level_needs():
    assert wanted(SD1) == (QR_SD1,)


def test_wanted_files_that_no_list_has_are_named_until_they_are_there(tmp_path, put):
    model = ModelFile(Purpose.CHECKPOINT, "m.safetensors", "compvis")
    custom = ModelRecord("M", Category.IMAGE, (model,), "stable_diffusion_1", SD1, custom=True)
    selection = choose(BridgeData(), Reference({}, {}), CustomModels({"M": custom}), month=None)
    assert auxiliary_records(Store(tmp_path), BridgeData(), selection) == []
    file, store = QR_SD1, Store(tmp_path)
    assert unlisted_files(store, BridgeData(), selection) == (f"controlnet/{file.name}",)
    put(tmp_path / "controlnet" / file.name)
    assert unlisted_files(store, BridgeData(), selection) == ()


@pytest.mark.parametrize(
    ("wanted_scores", "url", "fetched"), [(True, "https://x/m", 1), (True, None, 0), (False, "https://x/m", 0)]
)
def test_scores_are_fetched_for_where_models_are(tmp_path, wanted_scores, url, fetched):
    file = ModelFile(Purpose.CHECKPOINT, "m.safetensors", "compvis", url=url)
    listed = ModelRecord("M", Category.IMAGE, (file,), "stable_diffusion_1", SD1)
    config = BridgeData(models_to_load=["M"], aesthetic_score=wanted_scores)
    selection = choose(config, Reference({Category.IMAGE: {"M": listed}}, {}), CustomModels({}), month=None)
    names = [record.name for record in auxiliary_records(Store(tmp_path), config, selection)]
    assert names.count(f"{AESTHETIC.folder}/{AESTHETIC.name}") == fetched
