"""Devices are checked before an engine starts."""

from pathlib import Path

import pytest

from worker.app import build
from worker.app.build import devices_for
from worker.config.load import LoadedConfig
from worker.config.schema import BridgeData
from worker.engine.install import Runtime
from worker.engine.install.machine import Accelerator, DeviceFlags
from worker.errors import ConfigError


def devices(devices: object, installed: Accelerator, monkeypatch: pytest.MonkeyPatch, **flags: bool) -> list[str]:
    """Names of the devices used where the driver counts two cards."""
    monkeypatch.setattr(build, "card_count", lambda kind: 2 if kind is Accelerator.CUDA else None)
    monkeypatch.setattr(build, "find_cards", lambda *_: ())
    data = BridgeData.model_validate({"devices": devices})
    loaded = LoadedConfig(data, "environment", (), {}, {})
    where = Path()
    runtime = Runtime(where, where, where, where, where, installed)
    return [device.name for device in devices_for(loaded, runtime, DeviceFlags(**flags))]


@pytest.mark.parametrize("listed", [[7], [0, 2]])
def test_a_card_that_the_driver_does_not_count_is_refused(listed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=f"devices lists {listed[-1]}, but the cards are 0 to 1"):
        devices(listed, Accelerator.CUDA, monkeypatch)
    assert devices([0, 1], Accelerator.CUDA, monkeypatch) == ["cuda:0", "cuda:1"]


def test_gpu_numbers_on_a_cpu_set_up_are_refused_unless_the_owner_says_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="set up for the CPU"):
        devices([0], Accelerator.CPU, monkeypatch)
    assert devices([0], Accelerator.CPU, monkeypatch, cpu=True) == ["cpu"]
    assert devices(["cpu"], Accelerator.CPU, monkeypatch) == ["cpu"]


def test_a_flag_for_another_card_than_torch_is_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="not for rocm"):
        devices("auto", Accelerator.CPU, monkeypatch, amd=True)
