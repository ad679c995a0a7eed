"""Extracts of the Horde's model lists, read whole, and every command resolved on them."""

import json
from collections import Counter

import pytest

from worker.models.catalog.model_commands import resolve
from worker.models.catalog.records import Category, Purpose
from worker.models.catalog.reference import Reference, read_folder
from worker.workflows.types import Family


@pytest.fixture(scope="module")
def reference(model_lists) -> Reference:
    return read_folder(model_lists)


@pytest.fixture(scope="module")
def raw(model_lists):
    return json.loads((model_lists / "stable_diffusion.json").read_text("utf-8"))


def pick(reference, *commands, **options):
    return list(resolve(commands, options.pop("skip", ()), reference.images, **options).load)


def test_every_entry_of_every_list_is_read(reference):
    assert reference.problems == ()
    sizes = {category: len(records) for category, records in reference.lists.items()}
    assert sizes == {
        Category.IMAGE: 25, Category.CONTROLNET: 18, Category.ESRGAN: 6, Category.GFPGAN: 1, Category.CODEFORMER: 1,
        Category.MISCELLANEOUS: 2, Category.CLIP: 2, Category.SAFETY_CHECKER: 1,
    }  # fmt: skip


def test_the_families_have_as_many_models_as_the_data(reference):
    assert Counter(record.family for record in reference.images.values()) == {
        Family.STABLE_DIFFUSION_1: 14, Family.STABLE_DIFFUSION_XL: 7, Family.STABLE_DIFFUSION_2_768: 2,
        Family.STABLE_CASCADE: 1, Family.FLUX_1: 1,
    }  # fmt: skip
    inpainting = [record for record in reference.images.values() if record.inpainting]
    assert len(inpainting) == 2
    assert {record.family for record in inpainting} == {Family.STABLE_DIFFUSION_1}


def test_every_image_model_has_a_checksum_and_an_address_for_every_file(reference):
    for record in reference.images.values():
        for file in record.files:
            assert file.sha256 == file.sha256.lower(), record.name
            assert file.url.startswith("https://"), record.name
            assert file.folder == "compvis"


def test_flags_are_those_of_the_data(reference, raw):
    for name, entry in raw.items():
        record = reference.images[name]
        assert record.nsfw == entry["nsfw"]
        assert record.size_on_disk == entry.get("size_on_disk_bytes")


def test_models_of_several_files_tell_them_apart(reference, model_lists):
    cascade = reference.images["Stable Cascade 1.0"]
    assert {file.purpose for file in cascade.files} == {Purpose.STAGE_B, Purpose.STAGE_C}
    beta = read_folder(model_lists, beta=True).images
    assert len(beta) == 25 + 4
    assert [(file.purpose, file.folder, file.name) for file in beta["Qwen-Image_fp8"].files] == [
        (Purpose.UNET, "compvis", "qwen_image_fp8_e4m3fn.safetensors"),
        (Purpose.VAE, "vae", "qwen_image_vae.safetensors"),
        (Purpose.TEXT_ENCODER, "text_encoders", "qwen_2.5_vl_7b_fp8_scaled.safetensors"),
    ]
    assert all(file.url for file in beta["Z-Image-Turbo"].files)


def test_auxiliary_files_keep_their_folders_and_lose_unused_configs(reference):
    canny = reference.find(Category.CONTROLNET, "control_canny")
    assert [(file.folder, file.name) for file in canny.files] == [
        ("controlnet", "diff_control_sd15_canny_fp16.safetensors")
    ]
    assert len(reference.find(Category.GFPGAN, "GFPGAN").files) == 7


@pytest.mark.parametrize(
    ("command", "baselines"),
    [
        ("ALL SDXL", {"stable_diffusion_xl"}),
        ("all  sdxl models", {"stable_diffusion_xl"}),
        ("ALL SD15", {"stable diffusion 1"}),
        ("ALL SD15 MODELS", {"stable diffusion 1"}),
        ("ALL SD21 MODEL", {"stable diffusion 2"}),
        ("ALL stable diffusion 2", {"stable diffusion 2"}),
        ("ALL stable_diffusion_xl", {"stable_diffusion_xl"}),
        ("ALL FLUX", {"flux_1"}),
        ("ALL flux_1", {"flux_1"}),
        ("ALL CASCADE", {"stable_cascade"}),
    ],
)
def test_all_of_a_baseline_is_what_the_data_lists(reference, raw, command, baselines):
    assert pick(reference, command, large=True) == [n for n, entry in raw.items() if entry["baseline"] in baselines]


@pytest.mark.parametrize(
    ("command", "flag", "value"),
    [("ALL NSFW", "nsfw", True), ("ALL SFW MODELS", "nsfw", False), ("ALL INPAINTING", "inpainting", True)],
)
def test_all_of_a_flag_is_what_the_data_lists(reference, raw, command, flag, value):
    assert pick(reference, command, large=True) == [name for name, entry in raw.items() if entry[flag] is value]


@pytest.mark.parametrize("command", ["ALL", "all models", " ALL  MODEL "])
def test_all_is_everything_but_the_large_models(reference, raw, command):
    large = {"Stable Cascade 1.0", "Flux.1-Schnell fp8 (Compact)"}
    assert pick(reference, command) == [name for name in raw if name not in large]
    assert pick(reference, command, large=True) == list(raw)


@pytest.mark.parametrize("command", ["TOP 5", "top5", "Top  5", " top 5 models"])
def test_top_5_is_five_models_whatever_is_skipped_or_too_large(reference, raw, command):
    month = {name: 1000 - rank for rank, name in enumerate(raw)} | {"Flux.1-Schnell fp8 (Compact)": 9000, "gone": 8000}
    first = list(raw)
    assert pick(reference, command, month=month) == first[:5]
    assert pick(reference, command, month=month, skip=first[:2]) == first[2:7]
    assert pick(reference, command, month=month, large=True)[0] == "Flux.1-Schnell fp8 (Compact)"


def test_bottom_3_is_the_least_used(reference, raw):
    month = {name: rank for rank, name in enumerate(list(raw)[:50])}
    assert pick(reference, "BOTTOM 3", month=month) == list(raw)[:3]
