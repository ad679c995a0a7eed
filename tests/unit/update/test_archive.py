"""Archives unpacked: what is inside comes out, and nothing gets outside."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.errors import FileBroken
from worker.update import archive
from worker.update.archive import unpack


def tar(
    path: Path, files: dict[str, bytes], *, mode: str = "w:gz", extra: Callable[[tarfile.TarFile], None] | None = None
):
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            packed.addfile(member, io.BytesIO(content))
        if extra:
            extra(packed)
    return path


FILES = {"hb-1/worker/a.py": b"a", "hb-1/start.sh": b"s", "hb-1/docs/\xc3\xa4.md".encode("latin-1").decode(): b"d"}


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
def test_a_tar_archive_comes_out_without_the_folder_around_it(tmp_path, mode):
    files = unpack(tar(tmp_path / "a.tar", FILES, mode=mode), tmp_path / "out")
    assert sorted(files)[:2] == ["docs/ä.md", "start.sh"]
    assert (tmp_path / "out" / "worker" / "a.py").read_bytes() == b"a"
    assert (tmp_path / "out" / "start.sh").stat().st_mode & 0o100


def test_a_zip_archive_as_well(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name, content in FILES.items():
            packed.writestr(name, content)
    assert len(unpack(tmp_path / "a.zip", tmp_path / "out")) == 3


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "hb/../../x", "../x", "hb/C:/x", "hb/a\\b", "hb/bridgeData.yaml", "hb/models/x",
        "hb/.git/config", "hb/.updates/journal.json", "hb/con", "hb/x.", "hb/x\x01",
    ],
)  # fmt: skip
def test_a_path_that_leads_outside_or_to_the_owners_files_is_refused(tmp_path, name):
    with pytest.raises(FileBroken):
        unpack(tar(tmp_path / "a.tar", {name: b"x"}), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "out"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    def add(packed: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("hb/worker/link")
        member.type, member.linkname = kind, "/etc/passwd"
        packed.addfile(member)

    with pytest.raises(FileBroken, match="link or a device"):
        unpack(tar(tmp_path / "a.tar", {}, extra=add), tmp_path / "out")


def test_a_bomb_ends_at_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 100_000)
    with pytest.raises(FileBroken, match="more than"):
        unpack(tar(tmp_path / "a.tar", {"hb/zeros": bytes(5_000_000)}), tmp_path / "out")
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    with pytest.raises(FileBroken, match="files"):
        unpack(tar(tmp_path / "b.tar", {f"hb/{number}": b"" for number in range(9)}), tmp_path / "out2")


def test_what_is_cut_off_or_no_archive_is_refused(tmp_path):
    whole = tar(tmp_path / "a.tar", {"hb/random": bytes(range(256)) * 4000}).read_bytes()
    broken = (whole[: len(whole) // 2], whole[:40], b"", b"<html>not found</html>", b"PK\x03\x04")
    for number, content in enumerate(broken):
        for suffix in (".tar", ".zip"):
            file = tmp_path / f"cut{number}{suffix}"
            file.write_bytes(content)
            with pytest.raises(FileBroken):
                unpack(file, tmp_path / f"out{number}{suffix}")


def test_a_name_twice_is_refused(tmp_path):
    def again(packed: tarfile.TarFile) -> None:
        packed.addfile(tarfile.TarInfo("hb/a"), io.BytesIO())

    with pytest.raises(FileBroken):
        unpack(tar(tmp_path / "a.tar", {"hb/a": b"1"}, extra=again), tmp_path / "out")
