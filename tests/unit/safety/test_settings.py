"""The child by the owner's configuration."""

from pathlib import Path

import pytest

from worker.config.schema import BridgeData
from worker.engine.devices import Device
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.models.catalog.records import Category, ModelRecord
from worker.safety.settings import model_facts, safety_rules, safety_settings


def settings(device, **config):
    data = BridgeData.model_validate({"api_key": "0" * 22, "dreamer_name": "w", **config})
    return safety_settings(
        data,
        Runtime.locate(),
        device,
        cache_home=Path("/models"),
        home=Path("/home"),
        logs=Path("/logs"),
        aesthetic=Path("/models/miscellaneous/a.pth"),
    )


@pytest.mark.parametrize(
    ("accelerator", "on_gpu", "device"),
    [
        (Accelerator.CUDA, True, "cuda"), (Accelerator.ROCM, True, "cuda"), (Accelerator.DIRECTML, True, "cpu"),
        (Accelerator.CPU, True, "cpu"), (Accelerator.CUDA, False, "cpu"),
    ],
)  # fmt: skip
def test_the_child_runs_on_the_card_only_where_the_owner_wants_it_and_it_can(accelerator, on_gpu, device):
    made = settings(Device(accelerator, 1), safety_on_gpu=on_gpu)
    assert made.command[-2:] == ("--device", device)
    cards = {name: made.environment.get(name) for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")}
    if device == "cpu":
        assert set(cards.values()) == {""}
    else:
        assert sorted(filter(None, cards.values())) == ["1"]


def test_the_weights_lie_in_the_owners_models_folder():
    assert settings(Device(Accelerator.CPU)).environment["AIWORKER_CACHE_HOME"] == "/models"


def test_the_rules_are_the_owners():
    data = BridgeData.model_validate({"api_key": "0" * 22, "dreamer_name": "w", "nsfw": False, "censor_nsfw": True})
    assert not safety_rules(data).allows_nsfw
    assert safety_rules(data).censors_unasked


def test_a_models_facts_are_the_references_and_a_custom_model_has_none():
    record = ModelRecord("Bold", Category.IMAGE, (), nsfw=True, tags=("anime", "furry"))
    assert model_facts(record)["nsfw"] is True
    assert model_facts(record)["tags"] == ["anime", "furry"]
    assert model_facts(ModelRecord("Mine", Category.IMAGE, (), custom=True)) == {}
    assert model_facts(None) == {}
