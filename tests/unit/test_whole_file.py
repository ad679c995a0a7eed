"""Files and folders that are put in place whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from worker.whole_file import move_whole, write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "folder" / "file"
    write_whole(file, "ö")

    def full(_draft, _file):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(file, b"new", exchange=full)
    assert file.read_bytes() == "ö".encode()
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
@pytest.mark.parametrize(("mode", "rights"), [(None, 0o600), (0o644, 0o644)])
def test_only_its_owner_reads_it_where_nothing_else_is_said(tmp_path, mode, rights):
    write_whole(tmp_path / "file", "text", mode=mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == rights


@pytest.fixture
def image(tmp_path, monkeypatch):
    """A folder that came with a container's image, which the system does not rename; what is copied is renamed."""
    folder = tmp_path / "image"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("text")
    (folder / "link").symlink_to("deep/file")
    rename = Path.rename

    def of_a_layer(self, target):
        if self == folder:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", of_a_layer)
    return folder


def test_a_folder_of_a_containers_image_is_copied_since_it_cannot_be_renamed(image, tmp_path):
    (tmp_path / ".new.copy" / "half").mkdir(parents=True)
    move_whole(image, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
    assert ((tmp_path / "new/deep/file").read_text(), (tmp_path / "new/link").is_symlink()) == ("text", True)
    assert not (tmp_path / "new/half").exists()


def test_what_else_is_in_the_way_of_a_move_is_raised(tmp_path):
    with pytest.raises(FileNotFoundError):
        move_whole(tmp_path / "gone", tmp_path / "new")
