"""state.json."""

import json
import stat

import pytest

from worker.engine.install.machine import Accelerator
from worker.engine.install.record import Choices, Part, PartRecord, Record
from worker.errors import RuntimeMissing

FULL = Record(
    choices=Choices(accelerator=Accelerator.ROCM, torch_index="https://index.example", comfyui="/comfy", dev=True),
    accelerator=Accelerator.ROCM,
    python="/usr/bin/python3.12",
    python_version="3.12",
    parts={Part.ENGINE: PartRecord(ready=True, made_from={"python": "3.12"}, packages=("torch-2.14.1.dist-info",))},
)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    FULL.save(tmp_path / "state.json")
    assert Record.load(tmp_path / "state.json") == FULL
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_everybody_may_read_it_since_images_are_made_by_root_and_run_by_others(tmp_path):
    FULL.save(tmp_path / "state.json")
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o644


def test_only_the_owner_may_read_the_password_of_an_index(tmp_path):
    choices = Choices(torch_index="https://fox:secret@index.example/simple")
    Record(choices=choices).save(tmp_path / "state.json")
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


def test_one_that_belongs_to_somebody_else_is_not_taken_for_absent(tmp_path, monkeypatch):
    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_text", refused)
    with pytest.raises(RuntimeMissing, match="another user") as said:
        Record.load(tmp_path / "state.json")
    assert "chown" in said.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 99}',
        '{"format": 1, "choices": {"accelerator": null, "surprise": 1}, "parts": {}}',
        '{"format": 1, "choices": null, "parts": 3}',
        "\x00\xff",
    ],
)
def test_a_file_that_makes_no_sense_is_an_empty_record(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    assert Record.load(tmp_path / "state.json") == Record()


def test_an_absent_file_is_an_empty_record(tmp_path):
    assert Record.load(tmp_path / "state.json") == Record()


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    FULL.save(tmp_path / "state.json")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.whole_file.os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        Record().save(tmp_path / "state.json")
    assert Record.load(tmp_path / "state.json") == FULL
    assert len(list(tmp_path.iterdir())) == 1


def test_a_part_that_is_not_said_to_be_ready_is_not(tmp_path):
    FULL.save(tmp_path / "state.json")
    text = json.loads((tmp_path / "state.json").read_text())
    text["parts"]["engine"]["ready"] = "yes"
    (tmp_path / "state.json").write_text(json.dumps(text))
    assert not Record.load(tmp_path / "state.json").parts[Part.ENGINE].ready
