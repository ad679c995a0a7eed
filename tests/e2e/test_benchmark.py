"""`benchmark` on a scripted engine: a card of some memory, and what goes wrong on it."""

import json
import subprocess
from typing import Any

import pytest

from tests.e2e.conftest import CLI, Owner
from worker.config.load import load_config
from worker.demo.engine.script import Fault, FaultKind
from worker.units import GIB

#: The tried sizes in pixels: 512², 768², 1024², 1280².
FITS, FITS_NOT = 1024 * 1024, 1280 * 1280


def benchmark(owner: Owner, *arguments: str) -> "subprocess.CompletedProcess[str]":
    owner.configure()
    return subprocess.run(
        [str(owner.python), str(CLI), "benchmark", "--cpu", "--config", str(owner.config_file), *arguments],
        cwd=owner.folder, env=owner._environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=170,
    )  # fmt: skip


def found(done: "subprocess.CompletedProcess[str]") -> tuple[dict[str, Any], dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return told, {each["key"]: each["value"] for each in told["proposals"]}


def test_a_size_that_runs_out_of_memory_bounds_what_is_proposed_and_is_written_back(owner):
    # Ten gibibytes for what is sampled at once.
    owner.play(seconds=0.05, card_bytes=12 * GIB, bytes_per_pixel=10 * GIB / (FITS * 1.2))
    before = owner.config_file
    done = benchmark(owner, "--minutes", "2", "--apply", "--json")
    told, values = found(done)
    ends = {(each["width"], each["batch"]): each["end"] for each in told["measured"]}
    assert ends[1024, 1] == "made"
    assert ends[1280, 1] == "out of memory"
    assert values["max_power"] == FITS // 32768
    assert told["applied"]
    written = load_config(before, environment={}).data
    assert (written.max_power, written.max_batch) == (values["max_power"], values["max_batch"])
    assert written.dreamer_name == "e2e worker"
    assert told["kept"]


@pytest.mark.parametrize("kind", [FaultKind.CRASH, FaultKind.SEGFAULT, FaultKind.MODEL_BROKEN])
def test_an_engine_that_breaks_is_an_answer_and_changes_nothing(owner, kind):
    owner.play(seconds=0.02, faults=(Fault(kind, times=None),))
    done = benchmark(owner, "--minutes", "1", "--json")
    told, values = found(done)
    assert {each["end"] for each in told["measured"]} <= {"the engine crashed", "can't be rendered"}
    assert values == {"extra_slow_worker": False}
    assert not told["applied"]


def test_without_settings_nothing_can_be_written(tmp_path, owner):
    done = subprocess.run(
        [str(owner.python), str(CLI), "benchmark", "--apply"],
        cwd=tmp_path, env=owner._environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "horde-bridge setup" in done.stderr
