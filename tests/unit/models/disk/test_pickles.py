"""Program code in PyTorch's files is found without running it, and weights are not taken for code."""

import collections
import os
import pickle
import zipfile

import pytest

from worker.models.disk import pickles
from worker.models.disk.contents import read_contents
from worker.models.disk.pickles import find_code


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive(path, content, name="archive/data.pkl"):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, content)
        file.writestr("archive/version", "3")
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "harmful",
    [Calls(os.system, "true"), Calls(eval, "1"), {"a": [Calls(os.getenv, "HOME")]}, Calls(getattr, "a", "b")],
)
def test_code_is_named_whatever_the_protocol(tmp_path, harmful, protocol):
    content = pickle.dumps({"state_dict": harmful}, protocol)
    assert find_code(archive(tmp_path / "m.ckpt", content))


def test_code_is_told_with_what_to_do(tmp_path):
    contents = read_contents(archive(tmp_path / "m.ckpt", pickle.dumps(Calls(os.system, "true"), 2)))
    assert "program code (posix.system)" in contents.damage or "program code (nt.system)" in contents.damage
    assert ".safetensors" in contents.damage


def test_code_in_a_file_from_before_the_archives_is_found_behind_its_head(tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(b"".join(pickle.dumps(each, 2) for each in (0x1950A86A, 1001, {}, Calls(os.system, "true"))))
    assert find_code(path).endswith("system")


WEIGHTS = (
    b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
    b"ctorch\nHalfStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x01tq\x07QK\x00K\x01\x85q\x08K\x01"
    b"\x85q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds."
)


@pytest.mark.parametrize(
    "content",
    [WEIGHTS, pickle.dumps(collections.OrderedDict(a=1), 4), pickle.dumps({"epoch": 1, "x": (1, 2.0, "s")}), b"", b"?"],
)
def test_weights_and_what_is_no_pickle_are_no_code(tmp_path, content):
    assert find_code(archive(tmp_path / "m.ckpt", content)) == ""
    (tmp_path / "bare.pt").write_bytes(content)
    assert find_code(tmp_path / "bare.pt") == ""


@pytest.mark.parametrize("bound", ["MAX_BYTES", "MAX_OPERATIONS"])
def test_an_archive_that_unpacks_to_gigabytes_is_looked_at_as_far_as_the_bounds(tmp_path, monkeypatch, bound):
    path = archive(tmp_path / "m.ckpt", b"\x80\x02" + b"N0" * 2000 + pickle.dumps(Calls(os.system, "true"), 2)[2:])
    assert find_code(path)
    monkeypatch.setattr(pickles, bound, 3000)
    assert find_code(path) == ""
