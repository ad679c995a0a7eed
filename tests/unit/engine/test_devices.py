"""Which engines run on which device, and with what."""

from pathlib import Path
from typing import Any

import pytest

from worker.config.schema import BridgeData
from worker.engine.devices import Device, Machine, choose_devices, engine_settings, memory_arguments
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.engine.install.record import Record
from worker.engine.process import EngineSettings
from worker.units import GIB

CARDS = tuple(Device(Accelerator.CUDA, index) for index in (0, 1))


def engines(*, memory_gib: int = 64, devices: tuple[Device, ...] = CARDS, **config: Any) -> list[EngineSettings]:
    return engine_settings(
        BridgeData.model_validate(config),
        Runtime.of(Path("root"), Path("runtime"), Record()),
        devices=devices,
        model_paths={},
        folder=Path("engines"),
        logs=Path("logs"),
        memory_bytes=memory_gib * GIB,
        largest_model_bytes=7 * GIB,
    )


@pytest.mark.parametrize(
    ("wanted", "accelerator", "expected"),
    [
        ("auto", Accelerator.CUDA, ["cuda:0", "cuda:1"]),
        ([2, 0], Accelerator.CUDA, ["cuda:2", "cuda:0"]),
        ([1, "cpu"], Accelerator.ROCM, ["rocm:1", "cpu"]),
        ([1], Accelerator.CPU, ["cpu"]),
    ],
)
def test_auto_is_every_card_and_a_list_is_what_it_says(
    wanted: Any, accelerator: Accelerator, expected: list[str]
) -> None:
    devices = choose_devices(BridgeData(devices=wanted), accelerator, cards=CARDS)

    assert [device.name for device in devices] == expected


def test_every_device_has_its_engines_each_with_its_own_folder_log_and_only_its_card() -> None:
    made = engines(max_threads=2)

    assert [each.device for each in made] == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    assert [each.environment["CUDA_VISIBLE_DEVICES"] for each in made] == ["0", "0", "1", "1"]
    assert [each.base_directory.name for each in made] == ["1", "2", "3", "4"]
    assert [each.log_file.name for each in made] == [f"bridge_{number}.log" for number in (1, 2, 3, 4)]
    assert {each.models_kept for each in made} == {1}
    assert {each.models_kept for each in engines()} == {3}
    assert [each.fresh_for_each_model for each in engines(cycle_process_on_model_change=True)] == [True, True]


def test_a_device_is_set_otherwise_where_the_owner_says_so() -> None:
    own = {"device": 1, "max_threads": 2, "max_power": 32, "memory_mode": "very_high", "models": ["a", "b"]}
    first, *second = engines(max_power=8, high_memory_mode=True, device_settings=[own])

    assert [each.device for each in second] == ["cuda:1", "cuda:1"]
    assert (first.max_pixels, first.models) == (0, frozenset())
    assert {(each.max_pixels, each.models) for each in second} == {(1024 * 1024, frozenset({"a", "b"}))}
    assert "--highvram" in first.arguments
    assert all("--gpu-only" in each.arguments for each in second)
    assert second[0].takes("a", 1024 * 1024)
    assert not second[0].takes("a", 1024 * 1024 + 1)
    assert not second[0].takes("c", 64)
    assert first.takes("c", 2048 * 2048)


@pytest.mark.parametrize(
    ("config", "memory_gib", "number"),
    [
        ({"post_process_job_overlap": True, "allow_post_processing": True}, 64, 4),
        ({"post_process_job_overlap": True, "allow_post_processing": True}, 32, 2),  # no room for four models
        ({"post_process_job_overlap": True, "allow_post_processing": False}, 64, 2),
        ({"post_process_job_overlap": False, "allow_post_processing": True}, 64, 2),
    ],
)
def test_for_overlap_each_device_has_one_engine_more_where_memory_allows(
    config: dict[str, Any], memory_gib: int, number: int
) -> None:
    assert len(engines(memory_gib=memory_gib, **config)) == number


@pytest.mark.parametrize(
    ("memory_gib", "model_gib", "count", "kept"),
    [(32, 2, 1, 6), (32, 7, 1, 2), (32, 7, 2, 1), (8, 7, 1, 1), (64, 7, 2, 3)],
)
def test_as_many_models_stay_in_memory_as_have_room(memory_gib: int, model_gib: int, count: int, kept: int) -> None:
    assert Machine(memory_gib * GIB, model_gib * GIB, count).models_kept == kept


@pytest.mark.parametrize(
    ("config", "has_card", "sharers", "expected"),
    [
        ({}, False, 1, ()),
        ({}, True, 1, ("--reserve-vram", "1.0")),
        ({}, True, 2, ("--reserve-vram", "1.0", "--disable-smart-memory")),
        ({"unload_models_from_vram_often": False}, True, 2, ("--reserve-vram", "1.0")),
        ({"high_memory_mode": True}, True, 1, ("--highvram",)),
        ({"dynamic_vram": False}, True, 1, ("--disable-dynamic-vram", "--reserve-vram", "1.0")),
        ({"dynamic_vram": False}, False, 1, ()),
        ({"high_memory_mode": True, "very_high_memory_mode": True}, True, 1, ("--gpu-only",)),
    ],
)
def test_the_owners_memory_modes_are_comfyuis_flags(
    config: dict[str, Any], has_card: bool, sharers: int, expected: tuple[str, ...]
) -> None:
    machine = Machine(8 * GIB, 7 * GIB, 1)

    assert memory_arguments(BridgeData(**config), machine, has_card=has_card, sharers=sharers) == (
        "--cache-classic",
        *expected,
    )
