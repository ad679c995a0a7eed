"""Counts and lists are written as people say them, and free disk is known wherever something will be."""

from pathlib import Path

import pytest

from worker.units import counted, free_bytes, listed, nearest_folder


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (0.7, "1 job"), (1.4, "1 job"), (1200, "1200 jobs")]
)
def test_one_is_one_and_everything_else_is_many(count, text):
    assert counted(count, "job") == text


def test_of_many_the_first_are_named_and_the_others_counted():
    assert listed(("a", "b"), 2) == "a, b"
    assert listed(["a", "b", 3, 4], 2, separator="; ") == "a; b and 2 more"
    assert listed((), 2) == ""


def test_free_disk_is_known_for_a_folder_that_does_not_exist_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") > 0


def test_a_drive_that_is_not_there_ends_the_search_for_a_folder(monkeypatch):
    """As Z: on Windows, whose root is no folder and lies in no other."""
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert nearest_folder(Path("/models/more")) == Path("/")
