"""Engines side by side: added whole or not at all, used, gone back from, removed; nothing else is touched."""

import contextlib
import errno
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from worker.engine.install.layout import Runtime
from worker.engine.versions import shelf as shelf_module
from worker.engine.versions.shelf import Shelf, disk_bytes
from worker.engine.versions.state import INSTALLED, STATE_FILE, EngineState, Verdict
from worker.errors import EngineChangeRefused
from worker.process.file_lock import lock

from .fake_trees import fake_tree

PYTHON = Path(sys.executable)


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    folder = tmp_path / "runtime"
    found = Runtime.locate(tmp_path, {"AIWORKER_RUNTIME_DIR": str(folder)})
    return replace(found, comfyui=fake_tree(folder / "comfyui", "0.1"), engine_python=PYTHON)


@pytest.fixture
def shelf(runtime: Runtime) -> Shelf:
    return Shelf(runtime)


def put(shelf: Shelf, name: str, version: str = "0.2") -> None:
    def make(folder: Path) -> None:
        fake_tree(folder / "comfyui", version)

    shelf.add(name, "somewhere", make, python=PYTHON)


def names(shelf: Shelf) -> list[str]:
    return [engine.name for engine in shelf.engines()]


def test_without_others_the_installed_engine_is_in_use(shelf: Shelf) -> None:
    assert names(shelf) == [INSTALLED]
    assert shelf.in_use.name == INSTALLED
    assert shelf.in_use.version == "0.1"


def test_an_added_engine_stands_beside_the_one_in_use(shelf: Shelf, runtime: Runtime) -> None:
    put(shelf, "new")

    assert names(shelf) == [INSTALLED, "new"]
    assert shelf.need("new").version == "0.2"
    assert shelf.in_use.name == INSTALLED
    assert shelf.runtime_for(own=False).comfyui == runtime.comfyui


def test_the_engine_in_use_takes_the_place_of_the_installed_one_unless_the_owner_has_his_own(shelf: Shelf) -> None:
    put(shelf, "new")
    shelf.use("new")

    assert shelf.runtime_for(own=False).comfyui == shelf.need("new").comfyui
    assert shelf.runtime_for(own=True).comfyui == shelf.installed.comfyui


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", "a/b", "-x", INSTALLED, "x.partial", "x.gone", "x" * 41, "a b", "state\n"),
        # the shelf's own file, and what Windows reads as another name
        *(STATE_FILE, "Installed", "State.JSON", "x.PARTIAL", "x.", "con", "NUL.1"),
    ],
)
def test_a_name_that_is_none_is_refused(shelf: Shelf, name: str) -> None:
    with pytest.raises(EngineChangeRefused, match="can't be called"):
        put(shelf, name)


def test_a_name_is_given_once(shelf: Shelf) -> None:
    put(shelf, "new")
    with pytest.raises(EngineChangeRefused, match="already"):
        put(shelf, "new")


def test_what_fails_while_it_is_made_leaves_nothing(shelf: Shelf) -> None:
    def fail(folder: Path) -> None:
        fake_tree(folder / "comfyui")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        shelf.add("new", "somewhere", fail)
    with pytest.raises(EngineChangeRefused, match=r"no ComfyUI.*main\.py"):
        shelf.add("new", "somewhere", lambda folder: (folder / "comfyui").mkdir())

    assert names(shelf) == [INSTALLED]
    assert not list(shelf.folder.glob("new*"))


def test_what_a_killed_command_left_is_no_engine_and_goes_with_the_next_one(shelf: Shelf) -> None:
    fake_tree(shelf.folder / "half.partial" / "comfyui")
    fake_tree(shelf.folder / "old.gone" / "comfyui")
    fake_tree(shelf.folder / "unsigned" / "comfyui")

    assert names(shelf) == [INSTALLED]
    put(shelf, "new")
    assert sorted(path.name for path in shelf.folder.iterdir() if path.is_dir()) == ["new", "unsigned"]


def test_only_one_command_changes_engines_at_a_time(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_module, "LOCK_WAIT_S", 0.0)
    put(shelf, "new")
    with (shelf.folder / shelf_module.FOLDERS_LOCK).open("r+b") as other:
        assert lock(other.fileno())
        for change in (lambda: put(shelf, "other"), lambda: shelf.remove("new")):
            with pytest.raises(EngineChangeRefused, match="Another command"):
                change()
    assert names(shelf) == [INSTALLED, "new"]


def test_while_an_engine_is_being_made_a_worker_goes_back_from_another(shelf: Shelf) -> None:
    put(shelf, "new")
    with (shelf.folder / shelf_module.FOLDERS_LOCK).open("r+b") as other:
        assert lock(other.fileno())
        shelf.use("new")
        shelf.use(INSTALLED, reason="it failed")
    assert shelf.in_use.name == INSTALLED


def test_an_engine_that_is_gone_gives_way_to_the_installed_one(shelf: Shelf) -> None:
    put(shelf, "new")
    shelf.use("new")
    (shelf.need("new").comfyui / "main.py").unlink()

    assert shelf.in_use.name == INSTALLED


def test_use_keeps_what_was_before_and_going_back_has_a_reason(shelf: Shelf) -> None:
    put(shelf, "one")
    put(shelf, "two")
    shelf.use("one")
    state = shelf.use("two")
    assert (state.current, state.previous, state.on_probation) == ("two", "one", True)

    state = shelf.use(state.previous, reason="it failed")
    assert (state.current, state.previous, state.reason, state.on_probation) == ("one", INSTALLED, "it failed", False)


def test_the_one_in_use_and_the_installed_one_are_not_removed(shelf: Shelf) -> None:
    put(shelf, "new")
    shelf.use("new")
    for name in ("new", INSTALLED):
        with pytest.raises(EngineChangeRefused):
            shelf.remove(name)
    with pytest.raises(EngineChangeRefused, match="no engine 'nope'"):
        shelf.remove("nope")
    assert names(shelf) == [INSTALLED, "new"]


def test_one_that_still_runs_is_not_removed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shelf, "new")
    monkeypatch.setattr(shelf_module, "running", lambda _: [77])
    with pytest.raises(EngineChangeRefused, match="still runs \\(process 77\\)"):
        shelf.remove("new")


def test_what_killed_commands_left_goes_though_there_is_no_such_engine(shelf: Shelf) -> None:
    put(shelf, "new")
    for left in ("half.partial", "old.gone"):
        (shelf.folder / left).mkdir()
    with pytest.raises(EngineChangeRefused, match="There is no engine 'half'"):
        shelf.remove("half")
    assert sorted(path.name for path in shelf.folder.iterdir() if path.is_dir()) == ["new"]


def test_room_is_made_on_a_full_disk(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shelf, "new")
    monkeypatch.setattr(EngineState, "save", _full_disk)
    with pytest.raises(OSError, match="No space"):
        shelf.remove("new")
    assert [path for path in shelf.folder.iterdir() if path.is_dir()] == []


def _full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_removed_is_forgotten(shelf: Shelf) -> None:
    put(shelf, "new")
    shelf.use("new")
    shelf.change(lambda state: state.with_verdict("new", Verdict(1.0, INSTALLED, takes=True, summary="fine")))
    shelf.change(lambda state: state.with_speeds("new", {"a": 1.0}))
    shelf.use(INSTALLED)
    shelf.remove("new")

    assert names(shelf) == [INSTALLED]
    state = shelf.state
    assert (state.previous, state.verdicts, state.speeds) == (INSTALLED, {}, {})


def test_an_engine_takes_over_nothing_from_one_of_its_name_that_is_gone(shelf: Shelf) -> None:
    """A removal that was killed, or a folder deleted by hand, leaves what was known of it, or even in use."""
    put(shelf, "new")
    shelf.use("new")
    shelf.change(lambda state: state.with_verdict("new", Verdict(1.0, INSTALLED, takes=True, summary="fine")))
    shelf.change(lambda state: state.with_speeds("new", {"a": 1.0}))
    shutil.rmtree(shelf.folder / "new")
    assert shelf.in_use.name == INSTALLED
    put(shelf, "new", "0.3")

    state = shelf.state
    assert shelf.in_use.name == INSTALLED
    assert (state.current, state.previous, state.verdicts, state.speeds) == (INSTALLED, INSTALLED, {}, {})
    assert state.reason == "new was gone"


def test_one_that_is_removed_meanwhile_is_not_taken_into_use(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shelf, "new")
    locked = shelf._locked

    @contextlib.contextmanager
    def late(name: str) -> Iterator[None]:
        with locked(name):
            (shelf.folder / "new").rename(shelf.folder / "new.gone")
            yield

    monkeypatch.setattr(shelf, "_locked", late)
    with pytest.raises(EngineChangeRefused, match="There is no engine 'new'"):
        shelf.use("new")
    assert shelf.state.current == INSTALLED


def test_the_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = EngineState().using("new", now=5.0).with_speeds("new", {"a": 1.5})
    state = state.with_verdict("new", Verdict(2.0, INSTALLED, takes=False, summary="slow"))
    state.save(tmp_path)

    assert EngineState.load(tmp_path) == state


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "null", '{"format": 2}', '{"format": 1}', '{"format": 1, "current": 3, "verdicts": []}', "\0" * 99],
)
def test_a_state_that_makes_no_sense_is_that_of_the_installed_engine(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text, encoding="utf-8")
    assert EngineState.load(tmp_path) == EngineState()


def test_a_foreign_name_in_the_state_leads_nowhere(shelf: Shelf) -> None:
    shelf.folder.mkdir(parents=True)
    outside = fake_tree(shelf.folder.parent / "outside" / "comfyui").parent
    (outside / "origin.json").write_text(json.dumps({"origin": "x", "added": 1, "python": str(PYTHON)}))
    replace(EngineState(), current="../outside").save(shelf.folder)

    assert shelf.in_use.name == INSTALLED


def test_shared_files_take_no_disk(tmp_path: Path) -> None:
    (tmp_path / "alone").write_bytes(bytes(100))
    (tmp_path / "first").write_bytes(bytes(1000))
    (tmp_path / "again").hardlink_to(tmp_path / "first")
    assert disk_bytes(tmp_path) == 100
