"""Which cards are taken where the owner names none."""

from pathlib import Path

import pytest

from worker.config.schema import BridgeData
from worker.engine import cards
from worker.engine.cards import find_cards
from worker.engine.devices import Device, choose_devices
from worker.engine.install.machine import Accelerator

AMD_CARD = {"vendor": "0x1002\n", "mem_info_vram_total": f"{16 * 1024**3}\n"}


@pytest.fixture(autouse=True)
def two_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (0, 1):
        device = tmp_path / f"card{number}" / "device"
        device.mkdir(parents=True)
        for name, text in AMD_CARD.items():
            (device / name).write_text(text)
    monkeypatch.setattr(cards, "DRM", tmp_path)
    monkeypatch.setattr(cards, "_count_nvidia", lambda: 2)


def seen(accelerator: Accelerator, **environment: str) -> dict[str, dict[str, str]]:
    """Name of each card -> what its engine's environment gets."""
    devices = choose_devices(BridgeData(), accelerator, cards=find_cards(accelerator, environment))
    return {device.name: device.environment for device in devices}


def test_every_card_is_taken_as_the_driver_counts_them() -> None:
    assert seen(Accelerator.ROCM) == {
        "rocm:0": {"HIP_VISIBLE_DEVICES": "0"},
        "rocm:1": {"HIP_VISIBLE_DEVICES": "1"},
    }
    assert list(seen(Accelerator.CUDA)) == ["cuda:0", "cuda:1"]
    assert list(seen(Accelerator.DIRECTML)) == ["directml:0"]
    assert list(seen(Accelerator.CPU)) == ["cpu"]


@pytest.mark.parametrize(
    ("accelerator", "environment", "expected"),
    [
        (Accelerator.CUDA, {"CUDA_VISIBLE_DEVICES": "1"}, {"cuda:1": {"CUDA_VISIBLE_DEVICES": "1"}}),
        (
            Accelerator.CUDA,
            {"CUDA_VISIBLE_DEVICES": " GPU-8932f937, MIG-a1 "},
            {
                "cuda:GPU-8932f937": {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"},
                "cuda:MIG-a1": {"CUDA_VISIBLE_DEVICES": "MIG-a1"},
            },
        ),
        # As the driver has it: what comes after an entry that is no card is not seen.
        (Accelerator.CUDA, {"CUDA_VISIBLE_DEVICES": "3,-1,1"}, {"cuda:3": {"CUDA_VISIBLE_DEVICES": "3"}}),
        (Accelerator.CUDA, {"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": ""}, {"cpu": {}}),
        (Accelerator.ROCM, {"HIP_VISIBLE_DEVICES": "1"}, {"rocm:1": {"HIP_VISIBLE_DEVICES": "1"}}),
        (Accelerator.ROCM, {"CUDA_VISIBLE_DEVICES": "1"}, {"rocm:1": {"CUDA_VISIBLE_DEVICES": "1"}}),
        (Accelerator.ROCM, {"ROCR_VISIBLE_DEVICES": "1"}, {"rocm:1": {"ROCR_VISIBLE_DEVICES": "1"}}),
    ],
)
def test_the_drivers_own_variable_leaves_only_the_cards_it_names(
    accelerator: Accelerator, environment: dict[str, str], expected: dict[str, dict[str, str]]
) -> None:
    assert seen(accelerator, **environment) == expected


def test_what_the_owner_says_of_a_card_goes_before_the_variable() -> None:
    visible = find_cards(Accelerator.CUDA, {"CUDA_VISIBLE_DEVICES": "1"})

    assert choose_devices(BridgeData(devices=(0,)), Accelerator.CUDA, cards=visible) == (Device(Accelerator.CUDA, 0),)
