"""Archives give plain files within bounds, inside the folder they are meant for, and nothing else."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from worker.errors import InputRefused
from worker.untrusted.archives import ArchiveBounds, unpack

BOUNDS = ArchiveBounds(files=10, total_bytes=10_000)
Make = Callable[[Path, Mapping[str, bytes]], Path]


def zipped(folder: Path, files: Mapping[str, bytes]) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(folder: Path, files: Mapping[str, bytes]) -> Path:
    path = folder / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


BOTH = pytest.mark.parametrize("make", [zipped, tarred])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@BOTH
@pytest.mark.parametrize("around", ["", "ComfyUI-0.33/"])
def test_files_come_out_without_the_one_folder_around_them(tmp_path: Path, make: Make, around: str) -> None:
    files = {"main.py": b"x", "comfy/sd.py": b"y" * 100}
    archive = make(tmp_path, {f"{around}{name}": content for name, content in files.items()})
    (tmp_path / "out").mkdir()

    unpack(archive, tmp_path / "out", BOUNDS)

    assert contents(tmp_path / "out") == files


@BOTH
@pytest.mark.parametrize(
    "name",
    ["../out", "/etc/passwd", "a/../../b", "a/..", "C:\\x", "a\\..\\b", "nul", "a/CON.txt", "x:stream", "a. ", "a\nb",
     "d/" * 600 + "x"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, make: Make, name: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputRefused):
        unpack(make(tmp_path, {"first": b"1", name: b"2"}), tmp_path / "out", BOUNDS)
    assert contents(tmp_path / "out") == {}


@BOTH
def test_more_or_larger_files_than_the_bounds_are_refused_before_any_is_written(tmp_path: Path, make: Make) -> None:
    for files in ({str(number): b"" for number in range(11)}, {"a": bytes(6000), "b": bytes(6000)}):
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(InputRefused, match="more than"):
            unpack(make(tmp_path, files), tmp_path / "out", BOUNDS)
        assert contents(tmp_path / "out") == {}


def test_a_size_that_is_told_wrong_does_not_get_past_the_bound(tmp_path: Path) -> None:
    archive = zipped(tmp_path, {"a": bytes(50_000)})
    content = bytearray(archive.read_bytes())
    # In the directory at the end, after its mark: 24 bytes on, the size before compression.
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    (tmp_path / "out").mkdir()

    with pytest.raises(InputRefused):
        unpack(archive, tmp_path / "out", BOUNDS)

    assert sum(map(len, contents(tmp_path / "out").values())) <= BOUNDS.total_bytes


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("x")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputRefused, match="no plain file"):
        unpack(tmp_path / "a.tar", tmp_path / "out", BOUNDS)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("x")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputRefused, match="no plain file"):
        unpack(tmp_path / "a.zip", tmp_path / "out", BOUNDS)


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04broken", b"\x1f\x8b\x08" + bytes(20), bytes(600)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "out").mkdir()
    if content == bytes(600):
        unpack(tmp_path / "a.zip", tmp_path / "out", BOUNDS)  # an empty tar
    else:
        with pytest.raises(InputRefused):
            unpack(tmp_path / "a.zip", tmp_path / "out", BOUNDS)
    assert contents(tmp_path / "out") == {}


@BOTH
def test_a_file_that_comes_twice_is_refused(tmp_path: Path, make: Make) -> None:
    archive = make(tmp_path, {"A": b"1", "a": b"2"})
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out", BOUNDS)
    with pytest.raises(FileExistsError):
        unpack(archive, tmp_path / "out", BOUNDS)
