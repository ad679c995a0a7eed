"""What is read from CivitAI's answers, and from the names that jobs write."""

import pytest

from worker.errors import DownloadRefused
from worker.models.loras.civitai import MAX_NAME, Kind, fits, read_id, read_name, read_version
from worker.workflows.types import Family

FILE = {"name": "a.safetensors", "downloadUrl": "x", "hashes": {"SHA256": "a" * 64}}


@pytest.mark.parametrize(
    ("base_model", "family", "expected"),
    [
        ("SD 1.5", Family.STABLE_DIFFUSION_1, True),
        ("SD 1.5", Family.STABLE_DIFFUSION_XL, False),
        ("Pony", Family.STABLE_DIFFUSION_XL, True),
        ("SDXL Turbo", Family.STABLE_DIFFUSION_XL, True),
        ("Flux.1 D", Family.FLUX_SCHNELL, True),
        ("Illustrious", Family.STABLE_DIFFUSION_1, False),
        ("Something new", Family.STABLE_DIFFUSION_1, True),
    ],
)
def test_base_models_fit_their_families(base_model, family, expected):
    assert fits(base_model, family) is expected


@pytest.mark.parametrize(
    ("text", "name", "number"),
    [
        ("82098", "82098", 82098),
        ("<lora:foo bar:0.5>", "foo bar", None),
        (" x ", "x", None),
        ("²", "²", None),
        ("99999999999", "99999999999", None),
        ("9" * 5000, "9" * MAX_NAME, None),
    ],
)
def test_wishes_are_names_or_ids(text, name, number):
    assert read_name(text) == name
    assert read_id(read_name(text)) == number


@pytest.mark.parametrize("kind", Kind)
def test_of_several_files_the_primary_one_is_meant_unless_it_is_in_a_format_that_is_not_read(kind):
    files = [{**FILE, "downloadUrl": "first"}, {**FILE, "downloadUrl": "main", "primary": True}]
    model = {"type": kind.types[0], "name": "x"}
    assert read_version(model, {"id": 1, "files": files}, kind).url == "main"
    files[1]["name"] = "a.pt"
    assert read_version(model, {"id": 1, "files": files}, kind).url == "first"


@pytest.mark.parametrize(
    "version",
    [
        None,
        {},
        {"files": []},
        {"files": [{"name": "a.safetensors", "downloadUrl": "x", "hashes": None}]},
        {"files": "junk"},
        {"id": 1, "files": [{**FILE, "sizeKB": float("inf")}]},
    ],
)
def test_answers_that_make_no_sense_are_refused(version):
    with pytest.raises(DownloadRefused):
        read_version({"type": "LORA", "name": "x"}, version, Kind.LORA)
