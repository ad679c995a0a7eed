"""Model folders on disk: what is found, what is refused and why, and what ComfyUI is told."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from worker.errors import ConfigError
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose
from worker.models.disk.folder_layouts import Layout, detect
from worker.models.disk.store import Store
from worker.workflows.request import ServedModel
from worker.workflows.types import Family


def split_record():
    files = (
        ModelFile(Purpose.UNET, "u.safetensors", "compvis"),
        ModelFile(Purpose.VAE, "v.safetensors", "vae"),
        ModelFile(Purpose.TEXT_ENCODER, "t.safetensors", "text_encoders"),
    )
    return ModelRecord("Q", Category.IMAGE, files, "qwen_image", Family.QWEN_IMAGE)


def test_a_model_in_the_horde_tree_is_served_under_its_name(tmp_path, put, checkpoint):
    put(tmp_path / "compvis" / "m.safetensors")
    served = Store(tmp_path).served(checkpoint())
    assert served == ServedModel("M", Family.STABLE_DIFFUSION_XL, {"checkpoint": "m.safetensors"})


def test_a_split_model_is_served_only_when_every_file_is_there(tmp_path, put):
    put(tmp_path / "compvis" / "u.safetensors")
    put(tmp_path / "vae" / "v.safetensors")
    store = Store(tmp_path)
    (lack,) = store.served(split_record())
    assert lack.file.purpose is Purpose.TEXT_ENCODER
    assert lack.reason == f"{tmp_path / 'text_encoders' / 't.safetensors'} does not exist"
    put(tmp_path / "text_encoders" / "t.safetensors")
    assert store.served(split_record()).files == {
        "unet": "u.safetensors", "vae": "v.safetensors", "text_encoder": "t.safetensors",
    }  # fmt: skip


def test_a_model_of_an_unknown_family_is_not_served(tmp_path):
    with pytest.raises(ValueError, match="hidream"):
        Store(tmp_path).served(ModelRecord("A", Category.IMAGE, (), "hidream"))


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "empty"),
        (b"abc", "too short"),
        (b"\xff" * 64, "no safetensors file"),
        (b"\x08" + b"\0" * 7 + b"notjson!", "makes no sense"),
        (b"\x40" + b"\0" * 7 + b"{}", "cut off"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(tmp_path, put, checkpoint, content, hint):
    put(tmp_path / "compvis" / "m.safetensors", content)
    (lack,) = Store(tmp_path).served(checkpoint())
    assert hint in lack.reason
    assert lack.path == tmp_path / "compvis" / "m.safetensors"


@pytest.mark.parametrize("change", [lambda whole: whole[:-1], lambda whole: whole + b"x"])
def test_a_safetensors_file_of_the_wrong_length_is_refused(tmp_path, put, checkpoint, change):
    path = put(tmp_path / "compvis" / "m.safetensors")
    path.write_bytes(change(path.read_bytes()))
    (lack,) = Store(tmp_path).served(checkpoint())
    assert "cut off" in lack.reason or "too long" in lack.reason


def test_a_cut_off_pytorch_archive_is_refused(tmp_path, put, checkpoint):
    put(tmp_path / "data" / "x", b"weights" * 99)
    whole = Path(shutil.make_archive(str(tmp_path / "whole"), "zip", tmp_path / "data")).read_bytes()
    path = put(tmp_path / "compvis" / "m.ckpt", whole)
    store = Store(tmp_path)
    assert isinstance(store.served(checkpoint("m.ckpt")), ServedModel)
    path.write_bytes(whole[:-30])
    assert "cut off" in store.served(checkpoint("m.ckpt"))[0].reason


def test_a_repaired_file_is_looked_at_again(tmp_path, put, checkpoint):
    path = put(tmp_path / "compvis" / "m.safetensors", b"")
    store = Store(tmp_path)
    assert store.missing(checkpoint())
    put(path)
    assert not store.missing(checkpoint())


def test_regens_side_file_tells_another_version_without_hashing(tmp_path, put, checkpoint):
    put(tmp_path / "compvis" / "m.safetensors")
    (tmp_path / "compvis" / "m.sha256").write_text(f"{'a' * 64} *m.safetensors")
    store = Store(tmp_path)
    assert isinstance(store.served(checkpoint(sha256="a" * 64)), ServedModel)
    assert "another version" in store.served(checkpoint(sha256="b" * 64))[0].reason


def test_a_side_file_older_than_its_model_or_of_another_file_does_not_count(tmp_path, put):
    model = put(tmp_path / "compvis" / "m.safetensors")
    side = tmp_path / "compvis" / "m.sha256"
    store = Store(tmp_path)
    side.write_text(f"{'a' * 64} *m.ckpt")
    assert store.hashes.known(model) is None
    side.write_text(f"{'A' * 64} *m.safetensors")
    assert store.hashes.known(model) == "a" * 64
    os.utime(side, (1, 1))
    assert store.hashes.known(model) is None


def test_verify_hashes_once_and_keeps_the_checksum_in_regens_shape(tmp_path, put, checkpoint):
    path = put(tmp_path / "compvis" / "m.safetensors")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    store = Store(tmp_path)
    assert store.verify(checkpoint(sha256=sha256)) == ()
    assert (tmp_path / "compvis" / "m.sha256").read_text() == f"{sha256} *m.safetensors"
    assert "another version" in store.verify(checkpoint(sha256="b" * 64))[0].reason


def test_a_fresh_verify_finds_what_a_stale_record_hides(tmp_path, put, checkpoint):
    path = put(tmp_path / "compvis" / "m.safetensors")
    store = Store(tmp_path)
    store.hashes.keep(path, "b" * 64)
    assert store.verify(checkpoint(sha256="b" * 64)) == ()
    assert store.verify(checkpoint(sha256="b" * 64), fresh=True)


@pytest.mark.parametrize(
    "case",
    [
        ("models/checkpoints", "models/checkpoints/sdxl/m.safetensors", Layout.COMFYUI, "sdxl/m.safetensors"),
        ("checkpoints", "checkpoints/m.safetensors", Layout.COMFYUI, "m.safetensors"),
        ("models/Stable-diffusion", "models/Stable-diffusion/a/b/m.safetensors", Layout.A1111, "a/b/m.safetensors"),
        ("compvis", "compvis/m.safetensors", Layout.HORDE, "m.safetensors"),
        (".", "m.safetensors", Layout.FLAT, "m.safetensors"),
    ],
)
def test_trees_of_other_programs_are_read_and_never_written(tmp_path, put, checkpoint, case):
    marker, file, layout, listed = case
    other = tmp_path / "other"
    (other / marker).mkdir(parents=True)
    path = put(other / file)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert detect(other).layout is layout
    store = Store(tmp_path / "own", [other])
    assert store.served(checkpoint()).files == {"checkpoint": listed.replace("/", os.sep)}
    before = sorted(other.rglob("*"))
    assert store.verify(checkpoint(sha256=sha256)) == ()
    assert store.hashes.known(path) == sha256
    assert sorted(other.rglob("*")) == before
    with pytest.raises(ConfigError, match="only read"):
        store.quarantine(path)
    assert path.is_file()


def test_the_first_tree_that_has_the_name_counts_as_it_does_for_comfyui(tmp_path, put, checkpoint):
    put(tmp_path / "own" / "compvis" / "m.safetensors", b"")
    put(tmp_path / "other" / "compvis" / "m.safetensors")
    store = Store(tmp_path / "own", [tmp_path / "other"])
    assert "empty" in store.served(checkpoint())[0].reason
    store.quarantine(tmp_path / "own" / "compvis" / "m.safetensors")
    assert isinstance(store.served(checkpoint()), ServedModel)


def test_new_files_of_read_only_trees_are_seen_after_a_refresh(tmp_path, put, checkpoint):
    (tmp_path / "ui" / "models" / "checkpoints").mkdir(parents=True)
    store = Store(tmp_path / "own", [tmp_path / "ui"])
    assert store.missing(checkpoint())
    put(tmp_path / "ui" / "models" / "checkpoints" / "new" / "m.safetensors")
    store.refresh()
    assert not store.missing(checkpoint())


def test_a_broken_file_is_set_aside_with_its_record_and_can_be_fetched_again(tmp_path, put, checkpoint):
    path = put(tmp_path / "compvis" / "m.safetensors", b"junk")
    store = Store(tmp_path)
    store.hashes.keep(path, "a" * 64)
    aside = store.quarantine(path)
    assert aside.name == "m.safetensors.broken"
    assert not path.exists()
    assert not (tmp_path / "compvis" / "m.sha256").exists()
    assert store.target(checkpoint().files[0]) == path


def test_an_owners_file_elsewhere_is_served_and_its_folder_listed(tmp_path, put, checkpoint):
    path = put(tmp_path / "elsewhere" / "mine.safetensors")
    record = checkpoint("mine.safetensors", path=path)
    store = Store(tmp_path / "own", custom=[record])
    assert store.served(record).files == {"checkpoint": "mine.safetensors"}
    assert store.model_paths()["custom"] == {"checkpoints": str(path.parent)}
    with pytest.raises(ConfigError, match="your own file"):
        store.target(record.files[0])


def test_an_owners_file_hidden_by_another_of_its_name_is_not_served(tmp_path, put, checkpoint):
    path = put(tmp_path / "elsewhere" / "m.safetensors")
    put(tmp_path / "own" / "compvis" / "m.safetensors")
    record = checkpoint(path=path)
    (lack,) = Store(tmp_path / "own", custom=[record]).served(record)
    assert "hidden by" in lack.reason


def test_auxiliary_files_are_found_in_their_folder_also_those_comfyui_never_lists(tmp_path, put):
    files = (ModelFile(Purpose.AUXILIARY, "c.pth", "controlnet"), ModelFile(Purpose.AUXILIARY, "ViT.pt", "clip"))
    record = ModelRecord("x", Category.CLIP, files)
    store = Store(tmp_path)
    assert len(store.missing(record)) == 2
    put(tmp_path / "controlnet" / "c.pth", b"x")
    put(tmp_path / "clip" / "ViT.pt", b"x")
    assert store.missing(record) == ()
    assert store.find(files[0]).listed == "c.pth"
    assert store.find(files[1]).listed == ""


def test_a_file_beside_the_models_has_the_name_that_comfyui_lists(tmp_path, put):
    models = tmp_path / "comfyui" / "models"
    (models / "checkpoints").mkdir(parents=True)
    put(models / "upscale_models" / "ESRGAN" / "4x_AnimeSharp.pth.safetensors")
    put(models / "controlnet" / "some-sdxl-net" / "diffusion_pytorch_model.safetensors")
    put(models / "controlnet" / "FLUX.1-dev-Controlnet-Union" / "diffusion_pytorch_model.safetensors")
    store = Store(tmp_path / "own", [tmp_path / "comfyui"])

    def listed(folder, name):
        return store.listed(ModelFile(Purpose.AUXILIARY, name, folder))

    sharp = "4x_AnimeSharp.pth.safetensors"
    assert listed("esrgan", sharp) == str(Path("ESRGAN", sharp))
    assert listed("esrgan", "RealESRGAN_x4plus.pth") is None
    union, other = [f"FLUX.1-dev-Controlnet-{kind}/diffusion_pytorch_model.safetensors" for kind in ("Union", "Canny")]
    assert listed("controlnet", union) == str(Path(union))
    # The one that lies elsewhere under the same last name is another.
    assert listed("controlnet", other) is None
    put(tmp_path / "own" / "clip" / "named.safetensors")
    assert listed("clip", "named.safetensors") == "named.safetensors"


def test_comfyui_is_told_every_folder_in_search_order(tmp_path):
    (tmp_path / "ui" / "models" / "checkpoints").mkdir(parents=True)
    paths = Store(tmp_path / "own", [tmp_path / "ui"]).model_paths()
    own = tmp_path / "own"
    assert list(paths) == ["worker", "comfyui_1"]
    assert paths["worker"]["checkpoints"] == str(own / "compvis")
    assert paths["worker"]["diffusion_models"] == f"{own / 'compvis'}\n{own / 'unet'}"
    assert paths["worker"]["loras"] == str(own / "lora")
    assert paths["worker"]["embeddings"] == str(own / "ti")
    assert paths["worker"]["upscale_models"].split("\n")[0] == str(own / "esrgan")
    assert paths["comfyui_1"] == {"checkpoints": str(tmp_path / "ui" / "models" / "checkpoints")}


def test_free_disk_is_told_even_before_the_folder_exists(tmp_path):
    assert Store(tmp_path / "not" / "yet").free_bytes() > 0
