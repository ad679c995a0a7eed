"""Disk and models are checked before anything is downloaded; torch is asked within a bound."""

import json
import sys
from pathlib import Path

import pytest

from worker.commands import preflight
from worker.commands.doctor import ask_torch
from worker.commands.preflight import Finding, Rating, check_models, refuse_bad
from worker.config.load import load_config
from worker.config.schema import BridgeData
from worker.engine.install import Runtime
from worker.engine.install.machine import Accelerator, Card, DeviceFlags
from worker.engine.install.record import Choices, Record
from worker.errors import ConfigError

GIB = 1024**3


@pytest.fixture
def models(tmp_path, monkeypatch):
    """`models(free_gib, *sizes_gib)`: the findings where each listed model has this size."""
    monkeypatch.chdir(tmp_path)

    def check(free_gib, *sizes_gib):
        lists = tmp_path / "lists"
        lists.mkdir(exist_ok=True)
        entries = {
            f"M{number}": {
                "name": f"M{number}", "baseline": "stable diffusion 1", "type": "ckpt",
                "size_on_disk_bytes": int(size * GIB),
                "config": {
                    "files": [{"path": f"{number}.safetensors"}],
                    "download": [{"file_name": f"{number}.safetensors", "file_url": f"https://h/{number}"}],
                },
            }
            for number, size in enumerate(sizes_gib)
        }  # fmt: skip
        (lists / "stable_diffusion.json").write_text(json.dumps(entries))
        file = tmp_path / "bridgeData.yaml"
        file.write_text(f"model_reference: lists\nmodels_to_load: {json.dumps(list(entries))}\nallow_img2img: false\n")
        monkeypatch.setattr(preflight.Store, "free_bytes", lambda _: int(free_gib * GIB))
        return {finding.subject: finding for finding in check_models(load_config(file, environment={}), offline=True)}

    return check


def test_bytes_wanted_and_free_are_told_with_the_safety_checkers_weights(models):
    disk = models(100, 2, 2)["disk"]
    assert disk.rating is Rating.GOOD
    assert "6.1 GiB to download with the safety checker's weights, 100.0 GiB free" in disk.text


def test_models_without_room_are_named(models):
    disk = models(6, 2, 7)["disk"]
    assert disk.rating is Rating.DOUBTFUL
    assert "no room for M1" in disk.text
    assert disk.remedy


def test_room_for_the_models_alone_is_not_enough_for_the_safety_checker(models):
    disk = models(4, 2)["disk"]
    assert disk.rating is Rating.DOUBTFUL
    assert "no room for" not in disk.text


def test_a_disk_without_room_for_any_model_cannot_serve(models):
    assert models(0.03, 2)["disk"].rating is Rating.BAD


def test_everything_bad_is_refused_at_once_and_nothing_doubtful():
    bad = [Finding("a", Rating.BAD, "One.", "Do this."), Finding("b", Rating.BAD, "Two.", "Do that.")]
    with pytest.raises(ConfigError) as caught:
        refuse_bad([Finding("c", Rating.DOUBTFUL, "Three."), *bad])
    assert str(caught.value) == "One. Do this.\nTwo. Do that."
    refuse_bad([Finding("c", Rating.DOUBTFUL, "Three.")])


def fake_python(folder: Path, body: str) -> Path:
    """A Python with a torch that does what `body` says."""
    (folder / "torch.py").write_text(body)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


def test_torch_tells_its_cards_and_their_memory(tmp_path):
    body = (
        "class cuda:\n"
        "    device_count = staticmethod(lambda: 1)\n"
        "    get_device_name = staticmethod(lambda card: 'RTX')\n"
        "    mem_get_info = staticmethod(lambda card: (1, 2))\n"
    )
    assert ask_torch(fake_python(tmp_path, body), 60) == [("RTX", 1, 2)]


def test_a_torch_that_fails_or_hangs_is_told_as_that(tmp_path):
    assert ask_torch(fake_python(tmp_path, "raise ImportError('libcuda.so is missing')"), 60) == (
        "ImportError: libcuda.so is missing"
    )
    assert "no answer" in str(ask_torch(fake_python(tmp_path, "import time; time.sleep(60)"), 0.5))
    assert isinstance(ask_torch(tmp_path / "nothing", 1), str)


def test_torch_is_asked_as_an_engine_is_started_whatever_leads_python_elsewhere(tmp_path, monkeypatch):
    """Another torch in PYTHONPATH, or the standard library of another Python, was told as a driver that fails."""
    (tmp_path / "json.py").write_text("raise ImportError('of another environment')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    assert "torch" in str(ask_torch(Path(sys.executable), 60))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((Record(accelerator=Accelerator.CPU), False, Accelerator.CUDA, True), id="the driver came later"),
        pytest.param(
            (Record(Choices(accelerator=Accelerator.CPU), Accelerator.CPU), False, Accelerator.CUDA, False),
            id="by choice",
        ),
        pytest.param((Record(accelerator=Accelerator.CPU), True, Accelerator.CUDA, False), id="run --cpu"),
        pytest.param((Record(accelerator=Accelerator.CPU), False, Accelerator.CPU, False), id="no card"),
        pytest.param((Record(accelerator=Accelerator.CUDA), False, Accelerator.CUDA, False), id="torch for the card"),
    ],
)
def test_a_card_that_torch_was_not_installed_for_is_told(tmp_path, monkeypatch, case):
    """It was computed on the processor in silence."""
    record, cpu, found, told = case
    record.save(tmp_path / "state.json")
    monkeypatch.setattr(preflight, "detect_card", lambda _: Card(found, "an NVIDIA card (driver 580)"))
    runtime = Runtime.locate(tmp_path, {"AIWORKER_RUNTIME_DIR": str(tmp_path)})
    said = preflight.unused_card(BridgeData(), runtime, DeviceFlags(cpu=cpu))
    assert ("update-runtime --cuda" in said) is told
