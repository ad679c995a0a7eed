"""Which files beside the models are fetched for what an owner allows."""

import pytest

from worker.config.schema import BridgeData
from worker.models.auxiliary_records import as_file, as_record, wanted_files
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose
from worker.models.catalog.reference import Reference, read_folder
from worker.models.disk.installed import Catalog
from worker.models.disk.store import Store
from worker.workflows.auxiliary_files import (
    ANNOTATORS,
    CONTROLNETS,
    FACE_DETECTOR,
    LAYER_DIFFUSE,
    QR_CONTROLNETS,
    UPSCALERS,
)
from worker.workflows.types import Family

SD1, SDXL = Family.STABLE_DIFFUSION_1, Family.STABLE_DIFFUSION_XL


def wanted(*families, **allowed):
    return wanted_files(BridgeData.model_validate({"allow_img2img": True, **allowed}), families)


def test_nothing_is_fetched_for_what_is_not_allowed():
    assert wanted(SD1, SDXL) == ()


def test_post_processing_brings_upscalers_face_fixers_and_the_background_remover():
    files = wanted(SDXL, allow_post_processing=True)
    assert set(UPSCALERS.values()) | {FACE_DETECTOR} <= set(files)
    assert "u2net.onnx" in {file.name for file in files}
    assert {file.folder for file in files} == {"esrgan", "gfpgan", "codeformer", "rembg"}


def test_controlnets_come_for_the_families_served_only():
    files = wanted(SD1, allow_controlnet=True)
    assert set(CONTROLNETS[SD1].values()) <= set(files)
    assert not set(CONTROLNETS[Family.STABLE_DIFFUSION_2_768].values()) & set(files)
    assert {file for name in CONTROLNETS[SD1] for file in ANNOTATORS[name]} <= set(files)
    assert QR_CONTROLNETS[SD1] in files
    assert wanted(Family.FLUX_1, allow_controlnet=True) == ()


@pytest.mark.parametrize(("sdxl", "there"), [(False, set()), (True, {QR_CONTROLNETS[SDXL], LAYER_DIFFUSE[SDXL].model})])
def test_what_is_for_sdxl_needs_its_own_permission(sdxl, there):
    files = wanted(SDXL, allow_controlnet=True, allow_sdxl_controlnet=sdxl)
    assert {QR_CONTROLNETS[SDXL], LAYER_DIFFUSE[SDXL].model} & set(files) == there


def test_address_and_checksum_come_from_the_reference_where_it_lists_the_file():
    own = UPSCALERS["RealESRGAN_x4plus"]
    listed = ModelFile(Purpose.AUXILIARY, own.name, "esrgan", "a" * 64, "https://x/up.pth", 5)
    record = ModelRecord(own.record, Category.ESRGAN, (listed,))
    reference = Reference({Category.ESRGAN: {own.record: record}}, {})
    assert as_record(own, reference).files == (listed,)
    assert as_file(own).url is None
    unlisted = UPSCALERS["4xNomos8kSC"]
    assert as_record(unlisted, reference).files[0].url == unlisted.url


def test_every_file_has_an_address_in_the_real_reference(reference_dir):
    reference = read_folder(reference_dir / "model-reference")
    files = wanted(*Family, allow_post_processing=True, allow_controlnet=True, allow_sdxl_controlnet=True)
    assert len(files) > 40
    assert [file.name for file in files if not as_file(file, reference).url] == []


def test_a_file_is_here_when_it_is_whole(tmp_path, put):
    file = LAYER_DIFFUSE[SDXL].decoder
    assert not Catalog(Store(tmp_path), []).has(file)
    path = put(tmp_path / file.folder / file.name)
    assert Catalog(Store(tmp_path), []).has(file)
    path.write_bytes(path.read_bytes()[:-1])
    assert not Catalog(Store(tmp_path), []).has(file)
