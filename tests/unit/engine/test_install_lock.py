"""The lock files: exact, whole, and in step with what they lock."""

import re
from typing import Any

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from worker.engine.install.builds import TORCH, TORCHVISION
from worker.engine.install.layout import LOCKS, ROOT
from worker.engine.install.locks import read_lock

FILES = ["worker.txt", "worker-dev.txt", "torch.txt", "engine.txt", "pack.txt", "safety.txt"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def locked(name: str, python: str) -> dict[str, Requirement]:
    """What a lock file pins for a Python on Linux, by normalised name; a second pin of a name is an error."""
    environment: dict[str, Any] = {**default_environment(), "python_version": python, "sys_platform": "linux"}
    environment["python_full_version"] = f"{python}.1"
    pins: dict[str, Requirement] = {}
    for pin in read_lock(LOCKS / name):
        if not pin.marker or Marker(pin.marker).evaluate(environment):
            assert pin.name not in pins
            pins[pin.name] = Requirement(f"{pin.name}==={pin.version}")
    return pins


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", FILES)
def test_every_version_is_exact_and_named_once_for_each_python(name, python):
    pins = locked(name, python)
    assert pins
    for requirement in pins.values():
        assert re.fullmatch(r"===[\w.]+", str(requirement.specifier)), requirement


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_every_package_has_its_hash_and_no_line_is_left_unread(name):
    pins = read_lock(LOCKS / name)
    assert all(pin.sha256 for pin in pins)
    assert len(pins) == len(re.findall(r"^[A-Za-z0-9]", (LOCKS / name).read_text(), re.MULTILINE))
    assert sum(len(pin.sha256) for pin in pins) == (LOCKS / name).read_text().count("--hash=")


def test_the_lock_of_torch_is_for_the_version_that_the_builds_are_chosen_by():
    pins = {pin.name: pin.version for pin in read_lock(LOCKS / "torch.txt")}
    assert (pins["torch"], pins["torchvision"]) == (TORCH, TORCHVISION)


@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_tests_add_moves_nothing_that_the_worker_has(python):
    assert locked("worker.txt", python).items() <= locked("worker-dev.txt", python).items()


@pytest.mark.parametrize("python", PYTHONS)
def test_whatever_the_project_asks_for_is_locked_to_a_version_it_allows(python):
    pins = locked("safety.txt", python) | locked("worker-dev.txt", python)
    environment: dict[str, Any] = {**default_environment(), "python_version": python}
    text = (ROOT / "pyproject.toml").read_text()
    tables = [
        text.partition("dependencies = [\n")[2].partition("\n]")[0],
        text.partition("dev = [\n")[2].partition("\n]")[0],
        text.partition("safety = [")[2].partition("]")[0],
    ]
    asked = [
        Requirement(line.strip(' ",')) for table in tables for line in re.findall(r'^\s*"[^"]+"', table, re.MULTILINE)
    ]
    assert len(asked) > 20
    for requirement in asked:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            pin = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(str(pin.specifier).removeprefix("===")), pin


@pytest.mark.parametrize("python", PYTHONS)
def test_the_engine_gets_what_comfyui_asks_for(python, comfyui_requirements):
    pins = locked("engine.txt", python)
    #: by card / hears and makes sound / pages and documents that a headless engine never shows
    pages = {"comfyui-frontend-package", "comfyui-embedded-docs", "comfyui-workflow-templates"}
    left_out = {"torch", "torchvision", "torchaudio", *pages}
    for requirement in comfyui_requirements:
        name = canonicalize_name(requirement.name)
        if name not in left_out:
            version = str(pins[name].specifier).removeprefix("===")
            assert requirement.specifier.contains(version), requirement


@pytest.fixture
def comfyui_requirements(runtime):
    """What the unpacked ComfyUI's requirements.txt says."""
    lines = [line.strip() for line in (runtime.comfyui / "requirements.txt").read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_packs_packages_and_comfyuis_never_disagree(python):
    assert not locked("pack.txt", python).keys() & locked("engine.txt", python).keys()


@pytest.mark.parametrize("python", PYTHONS)
def test_the_safety_checker_moves_nothing_that_the_engine_has(python):
    others, safety = locked("engine.txt", python) | locked("pack.txt", python), locked("safety.txt", python)
    for name in others.keys() & safety.keys():
        assert others[name].specifier == safety[name].specifier


def test_torch_is_no_business_of_the_lock():
    files = ("engine.txt", "pack.txt", "safety.txt")
    names = set().union(*(locked(name, python) for python in PYTHONS for name in files))
    assert not {name for name in names if name in {"torch", "torchvision", "triton"} or name.startswith("nvidia-")}
