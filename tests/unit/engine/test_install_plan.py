"""What is missing or outdated, and why."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.install.layout import Runtime, environment_python, packages_folder, runtime_folder
from worker.engine.install.machine import Accelerator
from worker.engine.install.plan import Found, check, ingredients, look, plan, plan_for
from worker.engine.install.record import Choices, Part, PartRecord, Record

MADE = {"python": "3.11", "folder": "/runtime/engine", "accelerator": "cuda", "lock": "aa"}
READY = PartRecord(ready=True, made_from=MADE, packages=("torch-2.14.1.dist-info", "numpy-2.dist-info"))
STANDS = Found(stands=True, packages=frozenset({*READY.packages, "extra-1.dist-info"}))


def engine_step(recorded=READY, found=STANDS, **changes):
    """The step for the engine when it was made from MADE and these ingredients are now different."""
    everything_else = {part: ({}, PartRecord(True, {}), Found(True)) for part in Part}
    everything_else[Part.ENGINE] = ({**MADE, **changes}, recorded, found)
    steps = plan(
        {part: entry[0] for part, entry in everything_else.items()},
        {part: entry[1] for part, entry in everything_else.items() if entry[1]},
        {part: entry[2] for part, entry in everything_else.items()},
    )
    assert all(step.part is Part.ENGINE for step in steps)
    return steps[0] if steps else None


def test_a_whole_runtime_needs_no_step():
    assert engine_step() is None


def test_what_was_never_made_is_made():
    step = engine_step(recorded=None, found=Found(False))
    assert step.reason == "not there yet"


def test_what_was_interrupted_is_made_anew_even_if_it_looks_whole():
    step = engine_step(recorded=replace(READY, ready=False))
    assert "did not finish" in step.reason


def test_the_reason_holds_no_password():
    before = replace(READY, made_from={**MADE, "source": "https://me:pass1@git/c@v1"})
    step = engine_step(recorded=before, source="https://me:pass2@git/c@v2", torch_index="https://me:pass3@index")
    assert step.reason == (
        "source: https://****@git/c@v1 → https://****@git/c@v2; torch index: none → https://****@index"
    )


def test_what_was_removed_by_hand_is_made_anew():
    step = engine_step(found=Found(False))
    assert step.reason == "no longer there"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"python": "3.12"}, "python: 3.11 → 3.12"),
        ({"folder": "/moved/engine"}, "folder: /runtime/engine → /moved/engine"),
        ({"accelerator": "cpu"}, "accelerator: cuda → cpu"),
        ({"torch_index": "https://x"}, "torch index: none → https://x"),
        ({"lock": "bb"}, "the lock file changed"),
        ({"lock": "bb", "python": "3.12"}, "the lock file changed; python: 3.11 → 3.12"),
        ({"requirements": "cc"}, "ComfyUI's requirements.txt counts now"),
    ],
)
def test_a_change_is_told_in_words(change, reason):
    assert engine_step(**change).reason == reason


def test_a_lost_package_is_named():
    step = engine_step(found=Found(True, frozenset({"torch-2.14.1.dist-info"})))
    assert step.reason == "packages are gone: numpy-2"


def test_many_lost_packages_are_counted():
    packages = tuple(f"p{number}-1.dist-info" for number in range(9))
    step = engine_step(recorded=replace(READY, packages=packages), found=Found(True))
    assert step.reason == "packages are gone: p0-1, p1-1, p2-1 and 6 more"


def test_another_comfyui_replaces_the_tree():
    wanted = {part: {"source": "b"} if part is Part.COMFYUI else {} for part in Part}
    recorded = {part: PartRecord(True, {"source": "a"} if part is Part.COMFYUI else {}) for part in Part}
    (step,) = plan(wanted, recorded, dict.fromkeys(Part, Found(True)))
    assert step.part is Part.COMFYUI


@given(
    st.dictionaries(st.sampled_from(sorted(MADE)), st.sampled_from(["x", "y"])),
    st.booleans(),
    st.booleans(),
    st.sets(st.sampled_from(["torch-2.14.1.dist-info", "numpy-2.dist-info"])),
)
def test_there_is_no_step_if_and_only_if_all_is_as_wanted(changes, ready, stands, packages):
    step = engine_step(replace(READY, ready=ready), Found(stands, frozenset(packages)), **changes)
    whole = ready and stands and not changes and packages == set(READY.packages)
    assert (step is None) is whole


def test_the_steps_come_in_the_order_of_making():
    steps = plan({part: {} for part in Part}, {}, dict.fromkeys(Part, Found(False)))
    assert [step.part for step in steps] == [Part.WORKER, Part.COMFYUI, Part.ENGINE]


PYPROJECT = "[project]\n"


@pytest.fixture
def complete(tmp_path, monkeypatch):
    """A runtime folder in which everything stands, as recorded."""
    monkeypatch.delenv("AIWORKER_RUNTIME_DIR", raising=False)
    record = Record(accelerator=Accelerator.CPU, python="/usr/bin/python3", python_version="3.11")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    runtime = Runtime.of(tmp_path, tmp_path / "runtime", record)
    for name in ("worker", "engine"):
        python = environment_python(runtime.folder / name)
        packages = packages_folder(runtime.folder / name, "3.11")
        for folder in (python.parent, packages / "numpy-2.dist-info", packages / "torch-2.dist-info"):
            folder.mkdir(parents=True)
        python.touch()
    runtime.comfyui.mkdir()
    (runtime.comfyui / "main.py").touch()
    wanted = ingredients(runtime, record)
    found = look(runtime, record)
    record = replace(
        record, parts={part: PartRecord(True, wanted[part], tuple(sorted(found[part].packages))) for part in Part}
    )
    record.save(runtime.state)
    return runtime


def test_check_is_silent_about_a_complete_runtime(complete):
    assert check(complete.root, {}) == []


def test_check_names_each_part_of_an_empty_one(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    assert check(tmp_path, {}) == ["worker: not there yet", "comfyui: not there yet", "engine: not there yet"]


def test_check_sees_what_is_gone(complete):
    (complete.comfyui / "main.py").unlink()
    packages_folder(complete.folder / "engine", "3.11").joinpath("torch-2.dist-info").rmdir()
    complete.worker_python.unlink()
    assert check(complete.root, {}) == [
        "worker: no longer there",
        "comfyui: no longer there",
        "engine: packages are gone: torch-2",
    ]


def test_check_sees_a_dangling_interpreter(complete):
    """A system upgrade took the Python away that the environment's link points to."""
    complete.engine_python.unlink()
    complete.engine_python.symlink_to(complete.folder / "gone")
    assert check(complete.root, {}) == ["engine: no longer there"]


def test_a_moved_runtime_gets_new_environments_and_keeps_its_tree(complete, tmp_path):
    moved = complete.folder.rename(tmp_path / "elsewhere")
    steps = plan_for(tmp_path, moved, Record.load(moved / "state.json"))
    assert [step.part for step in steps] == [Part.WORKER, Part.ENGINE]


def test_an_owners_comfyui_and_python_are_used_where_they_are(complete, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "main.py").touch()
    (own / "python").touch()
    record = replace(Record.load(complete.state), choices=Choices(comfyui=str(own), comfyui_python=str(own / "python")))
    record.save(complete.state)
    runtime = Runtime.locate(tmp_path, {})
    assert (runtime.comfyui, runtime.engine_python) == (own, own / "python")
    assert [step.part for step in plan_for(tmp_path, complete.folder, record)] == [
        Part.COMFYUI,
        Part.ENGINE,
    ]


def test_an_update_of_an_owners_comfyui_updates_the_engines_packages(complete, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    record = Record(choices=Choices(comfyui=str(own)), python_version="3.11")
    runtime = Runtime.of(tmp_path, complete.folder, record)
    before = ingredients(runtime, record)[Part.ENGINE]
    (own / "requirements.txt").write_text("torch\nnumpy\n")
    after = ingredients(runtime, record)[Part.ENGINE]
    assert {name for name in after if after[name] != before[name]} == {"requirements"}


def test_the_runtime_folder_can_be_elsewhere(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    assert runtime_folder(tmp_path, {}) == tmp_path / "runtime"
    assert runtime_folder(tmp_path, {"AIWORKER_RUNTIME_DIR": "  "}) == tmp_path / "runtime"
    assert runtime_folder(tmp_path, {"AIWORKER_RUNTIME_DIR": "~/r"}) == Path.home() / "r"
    assert Runtime.locate(tmp_path, {"AIWORKER_RUNTIME_DIR": str(tmp_path / "x")}).comfyui == tmp_path / "x" / "comfyui"


def test_an_installed_wheel_is_the_workers_environment_and_keeps_its_runtime_there(tmp_path):
    assert runtime_folder(tmp_path, {}) == Path(sys.prefix) / "horde-bridge"
    assert Runtime.locate(tmp_path, {}).worker_python == Path(sys.executable)
    elsewhere = {"AIWORKER_RUNTIME_DIR": str(tmp_path / "runtime")}
    assert check(tmp_path, elsewhere) == ["comfyui: not there yet", "engine: not there yet"]


@pytest.mark.skipif(os.name == "nt", reason="a drive's letter could become a server's name")
def test_a_runtime_has_one_name_whatever_links_lead_there_and_a_link_to_nothing_stays_one(tmp_path):
    """Each start by another path made both environments anew."""
    (tmp_path / "disk" / "runtime").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "gone").symlink_to(tmp_path / "unmounted")
    folder = runtime_folder(tmp_path, {"AIWORKER_RUNTIME_DIR": str(tmp_path / "link" / "runtime")})
    assert folder == (tmp_path / "disk" / "runtime").resolve()
    assert runtime_folder(tmp_path, {"AIWORKER_RUNTIME_DIR": str(tmp_path / "gone")}) == tmp_path / "gone"
