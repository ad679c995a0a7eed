"""Annotators between jobs: kept as long as there is room, those least used gone first."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import worker.engine


@pytest.fixture
def pack(monkeypatch):
    """The node module by itself; inside the pack it would ask for ComfyUI."""
    file = Path(worker.engine.__file__).parent / "nodes" / "annotators.py"
    spec = importlib.util.spec_from_file_location("annotators", file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "annotators", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def annotator(pack):
    """Of so many bytes."""

    def make(size):
        weights = SimpleNamespace(numel=lambda: size, element_size=lambda: 1)
        return pack.Annotator(SimpleNamespace(parameters=lambda: [weights]), None)

    return make


@pytest.fixture
def shelf(pack, annotator):
    """A shelf for 100 bytes, and the names of what was loaded, in order."""
    kept, loaded = pack.Shelf(100), []

    def get(name, size=40):
        return kept.get(name, lambda: loaded.append(name) or annotator(size))

    return SimpleNamespace(get=get, loaded=loaded)


def test_what_was_loaded_is_not_loaded_again(shelf):
    assert shelf.get("a") is shelf.get("a")
    assert shelf.loaded == ["a"]


def test_when_there_is_no_room_the_one_least_used_goes(shelf):
    for name in ("a", "b", "a", "c", "a", "b"):
        shelf.get(name)
    assert shelf.loaded == ["a", "b", "c", "b"]


def test_one_that_is_larger_than_the_shelf_is_kept_alone(shelf):
    for name, size in (("a", 40), ("large", 500), ("large", 500), ("a", 40)):
        shelf.get(name, size)
    assert shelf.loaded == ["a", "large", "a"]
