"""What is said of a model file by its header: of which family it is, what it lacks, and what it is instead."""

import json
import struct

import pytest

from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose
from worker.models.disk.contents import checkpoint_damage, embedding_damage, lora_damage, read_contents
from worker.models.disk.store import Store
from worker.workflows import types
from worker.workflows.families import TRAITS, Traits
from worker.workflows.types import Family

SD1, SD2, SDXL = Family.STABLE_DIFFUSION_1, Family.STABLE_DIFFUSION_2_768, Family.STABLE_DIFFUSION_XL
UNET = "model.diffusion_model."
TEXT = f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
FIRST = f"{UNET}input_blocks.0.0.weight"
VAE, CLIP = "first_stage_model.decoder.conv_in.weight", "cond_stage_model.transformer.x.weight"


def unet(width):
    return {FIRST: (4, 4, 1, 1), TEXT: (1, width)}


def pair(name, width=2, rank=1, up=".lora_up.weight", down=".lora_down.weight"):
    return {name + up: (2, rank), name + down: (rank, width)}


@pytest.fixture
def look(tmp_path, put, weights):
    def read(content, name="m.safetensors"):
        return read_contents(put(tmp_path / name, weights(content) if isinstance(content, dict) else content))

    return read


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        (unet(768), SD1),
        (unet(1024), SD2),
        (unet(2048), SDXL),
        ({f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale": (1,)}, Family.FLUX_1),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": (1,)}, Family.FLUX_DEV),
        ({"txt_norm.weight": (1,), "transformer_blocks.0.attn.add_k_proj.weight": (1, 1)}, Family.QWEN_IMAGE),
        ({"clf.1.weight": (1,), "clip_mapper.weight": (1,)}, Family.STABLE_CASCADE),
    ],
)
def test_the_family_of_a_model_is_told_by_its_header(look, shapes, family):
    contents = look(shapes)
    assert contents.is_diffusion_model
    assert contents.fits(family)
    assert sum(contents.fits(other) for other in Family) < len(Family) - 2


@pytest.mark.parametrize(
    "shapes",
    [
        {f"{UNET}joint_blocks.0.context_block.attn.qkv.weight": (1, 1)},
        {"head.modulation": (1,)},
        {"double_blocks.0.img_attn.norm.key_norm.scale": (1,), "distilled_guidance_layer.0.norms.0.scale": (1,)},
    ],
)
def test_a_model_of_a_family_that_is_not_served_fits_none(look, shapes):
    contents = look(shapes)
    assert not any(contents.fits(family) for family in Family)
    assert f"a model of {contents.family}, not of stable_diffusion_1" in checkpoint_damage(contents, SD1)


@pytest.mark.parametrize(
    ("shapes", "damage"),
    [
        ({**unet(768), VAE: (1,), CLIP: (1,)}, ""),
        ({**unet(768), CLIP: (1,)}, "no VAE;"),
        ({**unet(768), VAE: (1,)}, "no text encoder;"),
        (unet(768), "no VAE and no text encoder;"),
        ({**unet(2048), VAE: (1,), CLIP: (1,)}, "Stable Diffusion XL, not of stable_diffusion_1"),
        (pair("lora_unet_x"), "a LoRA, no checkpoint"),
        ({"something.new": (1,)}, ""),
    ],
)
def test_a_checkpoint_is_told_what_it_lacks(look, shapes, damage):
    found = checkpoint_damage(look(shapes), SD1)
    assert damage in found
    assert bool(found) == bool(damage)


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        (pair("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 768), SD1),
        (pair("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_v", 1024), SD2),
        (pair("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048), SDXL),
        (pair("unet.a.attn2.to_k", 768, up=".lora_B.weight", down=".lora_A.weight"), SD1),
        (pair("unet.a.attn2.processor.to_k", 768, up="_lora.up.weight", down="_lora.down.weight"), SD1),
        ({"lora_unet_x_attn2_to_k.hada_w1_a": (2, 1), "lora_unet_x_attn2_to_k.hada_w1_b": (1, 2048)}, SDXL),
        (pair("lora_te2_text_model_encoder_layers_0_mlp_fc1"), SDXL),
        (pair("double_blocks.0.processor.qkv", up="_lora1.up.weight", down="_lora1.down.weight"), Family.FLUX_1),
        (pair("lora_unet_double_blocks_0_img_attn_qkv"), Family.FLUX_1),
        (pair("transformer.single_transformer_blocks.0.attn.to_q", up=".lora_B.weight", down=".lora_A.weight"),
         Family.FLUX_SCHNELL),
        (pair("transformer_blocks.0.img_mlp.net.2"), Family.QWEN_IMAGE),
        (pair("diffusion_model.layers.0.feed_forward.w1"), Family.Z_IMAGE_TURBO),
        (pair("lora_prior_unet_x"), Family.STABLE_CASCADE),
    ],
)  # fmt: skip
def test_the_family_of_a_lora_is_told_by_its_header(look, shapes, family):
    contents = look(shapes)
    assert lora_damage(contents) == ""
    assert contents.family
    assert contents.fits(family)
    assert not contents.fits(SD1 if family is not SD1 else SDXL)


@pytest.mark.parametrize("name", ["quite.new.layer", "lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_te_x"])
def test_a_lora_whose_names_tell_no_family_gets_its_chance(look, name):
    contents = look(pair(name))
    assert all(contents.fits(family) for family in Family)


@pytest.mark.parametrize(
    ("shapes", "damage"),
    [
        ({"x.lora_up.weight": (2, 1)}, "no counterpart"),
        ({"x.lora_up.weight": (2, 3), "x.lora_down.weight": (1, 2)}, "ranks"),
        ({"x.lora_up.weight": (2,), "x.lora_down.weight": (2, 2)}, "ranks"),
        ({**pair("x"), "x.alpha": (2,)}, "single number"),
        (pair("x", rank=0), "no values"),
        ({"x.lora_up.weight": (40_000, 1), "x.lora_down.weight": (1, 40_000)}, "larger than any"),
        ({"x.lokr_w1": (2, 2), "x.lokr_w2": (0, 2)}, "no values"),
        ({}, "no LoRA"),
        (unet(768), "whole model"),
        ({"emb_params": (1, 768)}, "no LoRA"),
    ],
)
def test_a_file_that_is_no_usable_lora_is_told_as_that(look, shapes, damage):
    assert damage in lora_damage(look(shapes))


def test_a_lora_of_whole_numbers_is_none_though_its_sizes_are_right(look, weights):
    """ComfyUI adds them to the weights as they are: nothing, or absurd. The scale alone may be a whole number."""
    shapes = {"x.alpha": (), **pair("x")}
    assert "whole numbers" in lora_damage(look(weights(shapes, "I16")))
    assert not lora_damage(look(weights(shapes).replace(b"F16", b"I16", 1)))


@pytest.mark.parametrize(
    ("shapes", "damage"),
    [
        ({"emb_params": (4, 768)}, ""),
        ({"clip_l": (4, 768), "clip_g": (4, 1280)}, ""),
        ({"emb_params": (1024,)}, ""),
        ({}, "no vectors"),
        ({"x": (2, 2)}, "no vectors"),
        ({"emb_params": (0, 768)}, "no vectors"),
        (pair("lora_unet_x"), "a LoRA"),
    ],
)
def test_a_file_that_is_no_textual_inversion_is_told_as_that(look, shapes, damage):
    found = embedding_damage(look(shapes))
    assert damage in found
    assert bool(found) == bool(damage)


def header(text):
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b'{"error":"Unauthorized"}', "an error message"),
        (b"Invalid username or password.", "an error message"),
        (b"PK\x03\x04 and so on", "rename it to .ckpt"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS pointer"),
        (header(b'{"a":' + b"[" * 100_000), "header"),
        (header(json.dumps({"a": {"dtype": "NOPE", "shape": [1], "data_offsets": [0, 2]}}).encode()) + b"00", "NOPE"),
        (header(json.dumps({"a": {"dtype": "F16", "shape": [9], "data_offsets": [0, 2]}}).encode()) + b"00", "header"),
        (header(json.dumps({"a": {"dtype": "F16", "shape": [1], "data_offsets": [4, 6]}}).encode()) + b"000000", "gap"),
        (struct.pack("<Q", 90 * 2**20) + b"{}", "no safetensors file"),
    ],
)  # fmt: skip
def test_what_is_no_model_file_is_told_as_what_it_is(look, content, damage):
    assert damage in look(content).damage


def test_a_safetensors_file_with_another_suffix_is_told_to_be_renamed(look):
    assert "rename it to .safetensors" in look({"w": (1,)}, "m.ckpt").damage


@pytest.mark.parametrize("length", [ord("{") + 256 * ord('"'), ord("<"), 0x0A0A, 0x2020])
def test_a_header_whose_length_looks_like_text_is_none(look, length):
    start = b'{"__metadata__": {"x": "'
    assert look(header(start + b"y" * (length - len(start) - 3) + b'"}}')).damage == ""


def test_a_custom_model_that_is_not_what_it_is_called_is_not_served(tmp_path, put, weights):
    path = put(tmp_path / "mine.safetensors", weights({**unet(2048), VAE: (1,), CLIP: (1,)}))
    file = ModelFile(Purpose.CHECKPOINT, path.name, "", path=path)
    record = ModelRecord("M", Category.IMAGE, (file,), "stable_diffusion_1", SD1, custom=True)
    [missing] = Store(tmp_path / "own", custom=[record]).missing(record)
    assert "correct the baseline" in missing.reason
    assert str(path) in missing.reason


def test_a_checkpoint_with_a_checksum_of_the_reference_is_taken_as_it_is(tmp_path, put, weights):
    put(tmp_path / "compvis" / "m.safetensors", weights(unet(2048)))
    file = ModelFile(Purpose.CHECKPOINT, "m.safetensors", "compvis", sha256="a" * 64)
    record = ModelRecord("M", Category.IMAGE, (file,), "stable_diffusion_1", SD1)
    assert Store(tmp_path).missing(record) == ()


def test_a_family_that_an_owner_adds_is_not_judged(look, monkeypatch):
    monkeypatch.setattr(types, "_FAMILIES", dict(types._FAMILIES))
    chroma = Family.register("chroma")
    monkeypatch.setitem(TRAITS, chroma, Traits(native_px=1024))
    contents = look(
        {"double_blocks.0.img_attn.norm.key_norm.scale": (1,), "distilled_guidance_layer.0.norms.0.scale": (1,)}
    )
    assert checkpoint_damage(contents, chroma) == ""
    assert checkpoint_damage(look(unet(2048)), chroma) == ""


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pt"])
@pytest.mark.parametrize(
    ("beginning", "what"),
    [
        (b"GGUF\x03\0\0\0\x01", "a GGUF file"), (b"7z\xbc\xaf'\x1c\0\x04", "an archive"),
        (b"Rar!\x1a\x07\x01\0", "an archive"), (b"\x1f\x8b\x08\x08abcd", "an archive"),
        (b"\x89PNG\r\n\x1a\n", "a picture"), (b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture"),
        (b"RIFF\x24\x10\0\x01WEBP", "a picture"), (b"%PDF-1.7\n", "a document"),
    ],
)  # fmt: skip
def test_a_file_of_another_format_is_told_as_that(tmp_path, suffix, beginning, what):
    file = tmp_path / f"model{suffix}"
    file.write_bytes(beginning + bytes(200))
    assert read_contents(file).damage.startswith(f"it is {what}")


def test_a_header_whose_length_begins_like_another_format_is_read(tmp_path):
    header = json.dumps({"lora_unet_x.lora_down.weight": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}})
    length = int.from_bytes(b"\x1f\x8b\x08", "little")
    file = tmp_path / "model.safetensors"
    file.write_bytes(length.to_bytes(8, "little") + header.encode().ljust(length) + bytes(4))
    assert not read_contents(file).damage
