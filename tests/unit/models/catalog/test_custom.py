"""custom_models of the config, and the file reGen keeps of them."""

import json

import pytest

from worker.config.key_types import CustomModel
from worker.models.catalog.custom import read_custom_file, read_custom_models, shadowed, with_custom, write_custom_file
from worker.models.catalog.model_commands import resolve
from worker.models.catalog.records import Purpose
from worker.models.disk.store import Store
from worker.workflows.types import Family


def entry(**more):
    return {"name": "Mine", "baseline": "stable_diffusion_xl", "filepath": "/models/mine.safetensors", **more}


def warning_of(*entries):
    return read_custom_models(entries).warnings[0]


@pytest.mark.parametrize(
    "baseline",
    ["stable_diffusion_1", "stable_diffusion_2_768", "stable_diffusion_2_512", "stable_diffusion_xl", "flux_1"],
)
def test_every_documented_baseline_of_one_file_is_read(baseline):
    custom = read_custom_models([entry(baseline=baseline)])
    assert custom.warnings == ()
    record = custom.records["Mine"]
    assert record.custom
    assert record.family is Family(baseline)
    assert str(record.files[0].path) == "/models/mine.safetensors"


def test_entries_of_the_config_are_read_as_it_holds_them():
    entries = [CustomModel.model_validate(entry()).model_dump()]
    assert list(read_custom_models(entries).records) == ["Mine"]


@pytest.mark.parametrize(
    ("baseline", "purposes"),
    [
        ("stable_cascade", ["stage_b", "stage_c"]),
        ("qwen_image", ["unet", "text_encoder", "vae"]),
        ("z_image_turbo", ["unet", "text_encoder", "vae"]),
        ("flux_dev", ["unet", "text_encoder", "text_encoder_2", "vae"]),
    ],
)
def test_models_of_several_files_name_each_by_its_purpose(baseline, purposes):
    files = {purpose: f"/m/{purpose}.safetensors" for purpose in purposes}
    record = read_custom_models([{"name": "Mine", "baseline": baseline, "files": files}]).records["Mine"]
    assert [file.purpose.value for file in record.files] == purposes


def test_relative_paths_start_in_the_folder_of_their_purpose():
    files = {"unet": "u.safetensors", "text_encoder": "sub/t.safetensors", "vae": "v.safetensors"}
    record = read_custom_models([{"name": "Mine", "baseline": "qwen_image", "files": files}]).records["Mine"]
    assert [(file.folder, file.name) for file in record.files] == [
        ("compvis", "u.safetensors"), ("text_encoders", "sub/t.safetensors"), ("vae", "v.safetensors"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        (entry(name=""), "no name"),
        (entry(baseline="sd9"), "is none of anima"),
        (entry(filepath=None), "no filepath"),
        (entry(filepath="../x.safetensors"), "no known model folder"),
        (entry(filepath="/x.safetensors"), "top of the disk"),
        (entry(filepath="/models/mine.gguf"), "/models/mine.gguf ends in none of .bin, .ckpt"),
        (entry(filepath="mine"), "mine ends in none of .bin, .ckpt"),
        (entry(baseline="stable_cascade"), "stage_b + stage_c"),
        (entry(files={"nose": "/m/x"}), "no purpose"),
    ],
)
def test_a_useless_entry_is_named_and_left_out(bad, hint):
    text = warning_of(bad)
    assert text.startswith("custom_models entry 1")
    assert hint in text


def test_the_case_of_an_ending_does_not_matter():
    assert read_custom_models([entry(filepath="/models/MINE.SAFETENSORS")]).warnings == ()


def test_of_two_entries_of_one_name_the_first_stays():
    custom = read_custom_models([entry(), entry(baseline="flux_1")])
    assert custom.records["Mine"].family is Family.STABLE_DIFFUSION_XL
    assert "taken" in custom.warnings[0]


def test_a_name_of_the_reference_stays_the_references(checkpoint):
    known = {"Mine": checkpoint()}
    custom = read_custom_models([entry(), entry(name="Other")])
    assert with_custom(known, custom)["Mine"] is known["Mine"]
    assert len(shadowed(known, custom)) == 1


def test_a_worker_with_only_custom_models_has_models_to_load():
    models = with_custom({}, read_custom_models([entry()]))
    assert resolve([], [], models).load == ("Mine",)


def test_the_file_has_regens_shape_and_reads_back(tmp_path):
    path = tmp_path / "custom_models.json"
    cascade = entry(
        name="C", baseline="stable_cascade", files={"stage_b": "/m/b.safetensors", "stage_c": "c.safetensors"}
    )
    custom = read_custom_models([entry(), cascade])
    write_custom_file(path, custom.records.values())
    content = json.loads(path.read_text())
    assert content["Mine"] == {
        "name": "Mine", "baseline": "stable_diffusion_xl", "type": "ckpt",
        "config": {"files": [{"path": "/models/mine.safetensors"}]},
    }  # fmt: skip
    assert content["C"]["config"]["files"][1] == {"path": "c.safetensors", "file_type": "stable_cascade_stage_c"}
    assert read_custom_file(path) == custom
    write_custom_file(path, ())
    assert not path.exists()
    assert read_custom_file(path).records == {}


def test_a_file_that_cannot_be_written_is_a_warning_and_not_an_error(tmp_path, said):
    path = tmp_path / "custom_models.json"
    path.mkdir()
    write_custom_file(path, read_custom_models([entry()]).records.values())
    assert any(str(path) in line and "can't be written" in line for line in said)


def test_an_own_model_in_a_folder_that_comfyui_does_not_search_for_it_is_not_served(tmp_path, put):
    put(tmp_path / "lora" / "mine.safetensors")
    [record] = read_custom_models([entry(filepath="../lora/mine.safetensors")]).records.values()
    [missing] = Store(tmp_path).served(record)
    assert missing.reason.endswith("lies where ComfyUI looks for no checkpoint")


def test_a_custom_model_of_several_files_elsewhere_is_served(tmp_path, put):
    files = {purpose: str(put(tmp_path / purpose / f"{purpose}.safetensors")) for purpose in ("stage_b", "stage_c")}
    custom = read_custom_models([{"name": "C", "baseline": "stable_cascade", "files": files}])
    record = custom.records["C"]
    served = Store(tmp_path / "own", custom=custom.records.values()).served(record)
    assert served.files == {"stage_b": "stage_b.safetensors", "stage_c": "stage_c.safetensors"}
    assert {file.purpose for file in record.files} == {Purpose.STAGE_B, Purpose.STAGE_C}
