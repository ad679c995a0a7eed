"""Files beside the image models, against the model reference and the Horde's own lists."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import worker.engine
from worker.errors import JobNotServable
from worker.workflows import auxiliary_files as auxiliary
from worker.workflows.auxiliary_files import (
    FACE_FIXERS,
    STRIP_BACKGROUND,
    UPSCALERS,
    needs,
    of_feature,
    of_post_processor,
)
from worker.workflows.families import AuxiliaryFile
from worker.workflows.payload import CONTROL_TYPES
from worker.workflows.request import SourceImage
from worker.workflows.types import Family, Feature

#: ControlNets that are never fetched.
OWN = {
    each.file for family in Family for choices in auxiliary.controlnets(family).values() for each in choices if each.own
}
EVERY_FILE = tuple(dict.fromkeys(file for feature in Feature for file in of_feature(feature) if file not in OWN))
SOURCE = SourceImage("key", 512, 512)


def names(files: tuple[AuxiliaryFile, ...]) -> list[str]:
    return [file.name for file in files]


def test_every_post_processor_has_a_file():
    for name in (*UPSCALERS, *FACE_FIXERS, STRIP_BACKGROUND):
        assert of_post_processor(name), name


def test_every_control_type_has_its_annotators_named_and_a_network_for_sd15():
    assert set(auxiliary.ANNOTATORS) == set(CONTROL_TYPES.values())
    assert set(auxiliary.controlnets(Family.STABLE_DIFFUSION_1)) == set(CONTROL_TYPES.values())


@pytest.mark.parametrize("file", EVERY_FILE, ids=lambda file: file.name)
def test_a_file_is_in_the_reference_or_brings_its_address(file, model_lists: Path):
    category, record = file.listed_as
    assert bool(category) is bool(record) is (file.url is None)
    if category:
        records = json.loads((model_lists / f"{category}.json").read_text("utf-8"))
        paths = [entry["path"] for entry in records[record]["config"]["files"]]
        assert file.name in paths
        assert file.folder == category


def test_an_inpainting_model_has_no_controlnet_but_a_map_is_made_for_it(request_for, model):
    inpainting = {"model": model(inpainting=True), "source": SOURCE}
    with pytest.raises(JobNotServable, match="no ControlNet for hed on stable_diffusion_1 inpainting"):
        needs(request_for({"control_type": "hed"}, **inpainting))
    assert names(needs(request_for({"control_type": "hed", "return_control_map": True}, **inpainting))) == [
        "annotator/ckpts/ControlNetHED.pth"
    ]


def test_a_plain_picture_needs_nothing_beside_its_model(request_for):
    assert needs(request_for()) == ()


def test_post_processing_needs_its_networks_and_the_face_finder_once(request_for):
    request = request_for({"post_processing": ["strip_background", "NMKD_Siax", "GFPGAN", "RestoreFormer"]})
    assert names(needs(request)) == [
        "GFPGANv1.4.pth",
        "detection_Resnet50_Final.pth",
        "parsing_parsenet.pth",
        "RestoreFormer.pth",
        "NMKD_Siax.pth",
        "u2net.onnx",
    ]


@pytest.mark.parametrize(
    ("family", "weights"),
    [
        (Family.STABLE_DIFFUSION_1, "layer_sd15_transparent_attn.safetensors"),
        (Family.STABLE_DIFFUSION_XL, "layer_xl_transparent_conv.safetensors"),
    ],
)
def test_transparent_pictures_need_the_weights_of_their_family(request_for, family, weights):
    assert needs(request_for({"transparent": True}, family))[0].name == weights


def test_a_family_without_transparent_pictures_renders_an_ordinary_one_and_says_so(request_for):
    request = request_for({"transparent": True}, Family.FLUX_SCHNELL)
    assert not request.transparent
    assert needs(request) == ()
    assert [note.ref for note in request.notes] == ["flux_schnell has no transparent pictures"]


def test_a_control_net_is_its_familys(request_for):
    payload = {"control_type": "canny"}
    for family, name in (
        (Family.STABLE_DIFFUSION_1, "diff_control_sd15_canny_fp16.safetensors"),
        (Family.STABLE_DIFFUSION_2_512, "diff_control_sd21_canny_fp16.safetensors"),
    ):
        assert names(needs(request_for(payload, family, source=SOURCE))) == [name]


@pytest.mark.parametrize(
    ("family", "control_type"),
    [(Family.STABLE_DIFFUSION_XL, "canny"), (Family.STABLE_DIFFUSION_2_768, "seg")],
)
def test_a_control_net_that_does_not_exist_is_refused_with_the_reason(request_for, family, control_type):
    request = request_for({"control_type": control_type}, family, source=SOURCE)
    with pytest.raises(JobNotServable, match=f"no ControlNet for {control_type} on {family.value}"):
        needs(request)


def test_a_control_map_needs_the_annotator_alone_and_a_ready_one_the_network_alone(request_for):
    payload = {"control_type": "mlsd"}
    asked = request_for(payload | {"return_control_map": True}, source=SOURCE)
    given = request_for(payload | {"image_is_control": True}, source=SOURCE)
    assert names(needs(asked)) == ["annotator/ckpts/mlsd_large_512_fp32.pth"]
    assert names(needs(given)) == ["control_mlsd_fp16.safetensors"]


def test_a_qr_code_has_a_network_of_its_own(request_for):
    request = request_for({"workflow": "qr_code"}, Family.STABLE_DIFFUSION_XL)
    assert names(needs(request)) == ["control_v1p_sdxl_qrcode_monster.safetensors"]


def test_the_annotators_files_are_those_the_node_pack_loads(monkeypatch):
    pack = Path(worker.engine.__file__).parent / "nodes" / "annotators.py"
    spec = importlib.util.spec_from_file_location("annotators", pack)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look for their module.
    monkeypatch.setitem(sys.modules, "annotators", module)
    spec.loader.exec_module(module)
    ours = {kind: [file.name for file in files] for kind, files in auxiliary.ANNOTATORS.items()}
    assert ours == {kind: [f"{module.FOLDER}/{file}"] if file else [] for kind, file in module.WEIGHTS.items()}
