"""Files that are written whole or not at all."""

import os
import stat

import pytest

from worker.whole_file import write_whole


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
