"""Entries of the model reference, in both schemas, whole and broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.models.catalog.records import Category, Purpose, family_of, place
from worker.models.catalog.schemas import PURPOSES, read_records, read_sha256
from worker.models.disk.folder_layouts import KEY_OF_PURPOSE, LAYOUTS, Layout
from worker.workflows.types import Family

SHA = "ab" * 32


def legacy(files, download=(), **more):
    return {"baseline": "stable_diffusion_xl", "config": {"files": files, "download": list(download)}, **more}


def service(*download, **more):
    return {"baseline": "stable_diffusion_xl", "nsfw": True, "config": {"download": list(download)}, **more}


def read(entry, category=Category.IMAGE):
    result = read_records({"M": entry}, category)
    assert result.problems == ()
    return result.records["M"]


def problem(entry):
    result = read_records({"M": entry, "good": legacy([{"path": "good.safetensors"}])}, Category.IMAGE)
    assert list(result.records) == ["good"]
    return result.problems[0]


def test_a_service_record_of_one_file_is_a_checkpoint():
    record = read(
        service(
            {"file_name": "m.safetensors", "file_url": "https://x/m", "sha256sum": SHA.upper(), "size_bytes": 7},
            size_on_disk_bytes=9,
        )
    )
    (file,) = record.files
    assert (file.purpose, file.folder, file.sha256, file.size) == (Purpose.CHECKPOINT, "compvis", SHA, 7)
    assert record.size == 7
    assert record.nsfw


def test_a_service_record_without_a_checksum_has_none():
    record = read(service({"file_name": "m.safetensors", "file_url": "https://x/m", "sha256sum": "FIXME"}))
    assert record.files[0].sha256 is None


@pytest.mark.parametrize(("role", "purpose"), PURPOSES.items())
def test_a_service_record_puts_a_file_of_every_role_where_comfyui_looks_for_it(role, purpose):
    [file] = read(service({"file_name": "m.safetensors", "file_url": "https://x/m", "file_purpose": role})).files
    assert file.folder in LAYOUTS[Layout.HORDE][KEY_OF_PURPOSE[purpose]]


def test_a_split_service_record_puts_parts_into_their_folders():
    record = read(
        service(
            {"file_name": "u.safetensors", "file_url": "https://x/u"},
            {"file_name": "v.safetensors", "file_url": "https://x/v", "file_purpose": "vae"},
            {"file_name": "a.safetensors", "file_url": "https://x/a", "file_purpose": "text_encoders"},
            {"file_name": "b.safetensors", "file_url": "https://x/b", "file_purpose": "text_encoders"},
            baseline="flux_dev",
        )
    )
    assert [(file.purpose.value, file.folder) for file in record.files] == [
        ("unet", "compvis"), ("vae", "vae"), ("text_encoder", "text_encoders"), ("text_encoder_2", "text_encoders"),
    ]  # fmt: skip
    assert record.family is Family.FLUX_DEV


def test_cascade_stages_are_told_by_name_where_the_role_is_not_written():
    record = read(
        legacy([{"path": "x_stage_b.safetensors"}, {"path": "x_stage_c.safetensors"}], baseline="stable_cascade")
    )
    assert [file.purpose for file in record.files] == [Purpose.STAGE_B, Purpose.STAGE_C]
    assert read(legacy([{"path": "backstage_bliss.safetensors"}])).files[0].purpose is Purpose.CHECKPOINT


def test_face_restore_helpers_lie_with_gfpgan():
    record = read(
        {
            "config": {
                "download": [{"file_name": "d.pth", "file_url": "https://x/d", "file_purpose": "face_restore_helper"}]
            }
        },
        Category.CODEFORMER,
    )
    assert (record.files[0].folder, record.files[0].purpose) == ("gfpgan", Purpose.AUXILIARY)


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ("text", "attribute"),
        ({"config": {}}, "no files"),
        (legacy([]), "no files"),
        (legacy([{"path": "../etc/passwd"}]), "no known model folder"),
        (legacy([{"path": "../../../x.ckpt"}]), "leaves the model folder"),
        (legacy([{"path": "/etc/passwd"}]), "no relative path"),
        (legacy([{"path": "C:\\x.ckpt"}]), "no relative path"),
        (legacy([{"path": "..\\x\\y.ckpt"}]), "no known model folder"),
        (legacy([{"path": "m.ckpt"}], [{"file_name": "m.ckpt", "file_path": "", "file_url": "file:///x"}]), "http"),
        (legacy([{"path": "a.ckpt"}, {"path": "b.ckpt"}]), "two files for checkpoint"),
    ],
)
def test_a_bad_entry_is_named_and_costs_only_itself(entry, hint):
    text = problem(entry)
    assert text.startswith("stable_diffusion: M: ")
    assert hint in text


def test_a_list_that_is_no_list_is_refused():
    with pytest.raises(ValueError, match="no JSON object"):
        read_records("nope", Category.IMAGE)


@pytest.mark.parametrize(
    ("baseline", "family"),
    [
        ("stable diffusion 1", Family.STABLE_DIFFUSION_1),
        ("Stable_Diffusion_1", Family.STABLE_DIFFUSION_1),
        ("stable diffusion 2", Family.STABLE_DIFFUSION_2_768),
        ("stable_diffusion_2_512", Family.STABLE_DIFFUSION_2_512),
        ("z_image_turbo", Family.Z_IMAGE_TURBO),
        ("krea2", Family.KREA2_TURBO),
        ("hidream", None),
        ("", None),
    ],
)
def test_baselines_of_either_spelling_find_their_family(baseline, family):
    assert family_of(baseline) is family


def test_an_unknown_baseline_is_kept_but_has_no_family():
    record = read(legacy([{"path": "m.ckpt"}], baseline="hidream"))
    assert (record.baseline, record.family) == ("hidream", None)


@given(st.lists(st.text("ab./\\:", max_size=8), min_size=1, max_size=3))
def test_no_path_ever_leaves_the_model_root(parts):
    try:
        folder, name = place("compvis", *parts)
    except ValueError:
        return
    assert folder in {"compvis", "vae"}
    assert ".." not in name.split("/")
    assert not name.startswith("/")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["config", "files", "download", "path", "file_name", "file_url", "baseline", "trigger", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused_with_a_reason(data):
    try:
        result = read_records({"M": data}, Category.IMAGE)
    except ValueError:
        return
    assert len(result.records) + len(result.problems) == 1


def test_a_checksum_is_64_hex_digits_of_either_case():
    assert read_sha256(f" {SHA.upper()} ") == SHA
    assert read_sha256("FIXME") is None
    assert read_sha256(None) is None
