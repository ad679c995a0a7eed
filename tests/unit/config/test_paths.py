from pathlib import Path

import pytest

from worker.config import paths
from worker.config.paths import models_root
from worker.config.schema import BridgeData


def tree(root, *folders):
    for folder in folders:
        (root / folder).mkdir(parents=True)


def found(cache_home, environment=()):
    return models_root(BridgeData(cache_home=str(cache_home)), dict(environment))


def test_the_folder_itself_counts_when_it_holds_both(tmp_path):
    tree(tmp_path, "compvis", "clip", "deeper/compvis", "deeper/clip")
    assert found(tmp_path) == tmp_path


def test_the_nearest_folder_below_counts_then_the_first_by_name(tmp_path):
    tree(tmp_path, "a/a/compvis", "a/a/clip", "c/compvis", "c/clip", "d/compvis", "d/clip", "b/compvis")
    assert found(tmp_path) == tmp_path / "c"


def test_without_any_it_is_the_folder_itself_even_if_it_does_not_exist(tmp_path):
    tree(tmp_path, "x/compvis", ".hidden/compvis", ".hidden/clip")
    assert found(tmp_path) == tmp_path
    assert found(tmp_path / "new") == tmp_path / "new"


def test_relative_paths_are_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found("./models/") == tmp_path / "models"


def test_home_and_variables_are_filled_in_and_the_first_of_several_counts(tmp_path):
    assert found("~/m", {"HOME": str(tmp_path)}) == tmp_path / "m"
    assert found("$DISK/m; /other", {"DISK": str(tmp_path)}) == tmp_path / "m"
    assert found("${DISK}/$UNKNOWN", {"DISK": str(tmp_path)}) == tmp_path / "$UNKNOWN"


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    tree(tmp_path / "disk", "compvis", "clip")
    tree(tmp_path, "home/empty")
    try:
        (tmp_path / "home/loop").symlink_to(tmp_path / "home")
        (tmp_path / "home/models").symlink_to(tmp_path / "disk")
    except OSError:
        pytest.skip("no symbolic links here")
    assert found(tmp_path / "home") == tmp_path / "home/models"


def test_the_search_is_bounded_in_depth_and_number(tmp_path, monkeypatch):
    tree(tmp_path, "1/2/3/4/5/6/compvis", "1/2/3/4/5/6/clip", "a/b/compvis", "a/b/clip")
    assert found(tmp_path / "1") == tmp_path / "1/2/3/4/5/6"
    assert found(tmp_path) == tmp_path / "a/b"
    monkeypatch.setattr(paths, "MAX_FOLDERS", 2)
    assert found(tmp_path) == Path(tmp_path)


def test_the_demos_models_in_the_runtime_are_not_the_owners(tmp_path):
    """With cache_home at its default, the worker's folder, models were downloaded among them after a demo."""
    for mark in paths.MARKS:
        (tmp_path / "runtime" / "tiny" / "models" / mark).mkdir(parents=True)
    for mark in paths.RUNTIME_MARKS:
        (tmp_path / "runtime" / mark).touch()
    assert found(tmp_path) == tmp_path
