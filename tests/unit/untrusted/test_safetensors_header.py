"""Headers of model files that somebody else made."""

import json
import struct

import pytest

from worker.errors import InputRefused
from worker.untrusted.safetensors_header import MAX_HEADER_BYTES, read_header, read_safetensors_header


def packed(header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def tensor(begin, end, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def test_a_whole_file_tells_its_tensors_and_texts(tmp_path):
    file = tmp_path / "m.safetensors"
    header = {"__metadata__": {"format": "pt", "n": 1}, "a": tensor(0, 8, "F16", [2, 2]), "b": tensor(8, 9)}
    file.write_bytes(packed(header, b"123456789"))

    read = read_safetensors_header(file)

    assert read.metadata == {"format": "pt"}
    assert (read.tensors["a"].dtype, read.tensors["a"].shape, read.tensors["b"].begin) == ("F16", (2, 2), 8)
    assert read.data_bytes == 9


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "too short"),
        (b"1234567", "too short"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1), "no safetensors file"),
        (struct.pack("<Q", 2**63), "no safetensors file"),
        (b"\x80\x02}q\x00.......", "no safetensors file"),
        (struct.pack("<Q", 100) + b"{}", "cut off"),
        (packed({"a": tensor(0, 8)}, b"1234"), "cut off"),
        (packed({"a": tensor(0, 8)}, b"123456789"), "too long"),
        (packed(b'{"a":' + b"[" * 400_000), "makes no sense"),
        (packed(b"[]"), "makes no sense"),
        (packed(b'{"a": {}}'), "makes no sense"),
        (packed({"a": tensor(4, 8)}, b"12345678"), "makes no sense"),
        (packed({"a": tensor(0, 8), "b": tensor(4, 8)}, b"12345678"), "makes no sense"),
        (packed({"a": tensor(0, 8), "b": tensor(9, 10)}, b"1234567890"), "makes no sense"),
        (packed({"a": tensor(8, 0, shape=[8])}, b"12345678"), "makes no sense"),
        (packed({"a": tensor(0, 8, "F32", [8])}, b"12345678"), "makes no sense"),
        (packed({"a": tensor(0, 8, shape=[-8])}, b"12345678"), "makes no sense"),
        (packed({"a": tensor(0, 0, shape=[2**62] * 1000 + [0])}), "makes no sense"),
        (packed({"a": tensor(0, 8, shape=[8.0])}, b"12345678"), "makes no sense"),
        (packed({"a": tensor(0, 8, shape=[True] * 8)}, b"12345678"), "makes no sense"),
        (packed(b'{"a": {"dtype": "U8", "shape": [NaN], "data_offsets": [0, 1e999]}}'), "makes no sense"),
    ],
)  # fmt: skip
def test_a_header_that_does_not_fit_its_file_is_told(tmp_path, content, says):
    file = tmp_path / "m.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputRefused, match=says):
        read_safetensors_header(file)


def test_a_type_of_numbers_to_come_is_no_damage():
    assert read_header(json.dumps({"a": tensor(0, 3, "F3", [8])}).encode()).data_bytes == 3


def test_notes_of_a_training_may_be_long():
    metadata = {"ss_tag_frequency": json.dumps({f"tag {number}": number for number in range(100_000)})}
    assert read_header(json.dumps({"__metadata__": metadata, "a": tensor(0, 1)}).encode()).metadata == metadata
