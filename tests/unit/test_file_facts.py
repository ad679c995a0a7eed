"""What is asked of files."""

import hashlib
import os

from worker.file_facts import end_of, sha256_of, stamp_of


def test_the_end_of_a_file_is_bounded_and_begins_where_one_looked_last_unless_it_is_shorter_now(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    assert end_of(file, 4) == b"6789"
    assert end_of(file, 100) == b"0123456789"
    assert end_of(file, 100, start=7) == b"789"
    assert end_of(file, 100, start=11) == b"0123456789"


def test_a_file_that_is_written_has_another_stamp_and_one_that_is_gone_has_none(tmp_path):
    file = tmp_path / "file"
    file.write_text("a")
    before = stamp_of(file)
    os.utime(file, ns=(1, 1))
    assert stamp_of(file) not in (before, None)
    file.unlink()
    assert stamp_of(file) is None


def test_a_digest_is_that_of_the_whole_file(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(os.urandom(5 * 2**20))
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).digest()
