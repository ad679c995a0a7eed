"""The safety child by the owner's configuration."""

from pathlib import Path
from typing import Any

from worker.config.schema import BridgeData
from worker.engine.devices import Device
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.models.catalog.records import ModelRecord
from worker.safety.child_process import CHILD, SafetySettings
from worker.safety.verdict import Rules

#: Cards that torch calls "cuda".
CARDS = frozenset({Accelerator.CUDA, Accelerator.ROCM})
#: On the CPU no card is seen, and none of its memory taken.
NO_CARDS = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}


def safety_settings(
    config: BridgeData, runtime: Runtime, device: Device, *, cache_home: Path, home: Path, logs: Path
) -> SafetySettings:
    """On `device` where the owner says so and horde-safety can, else on the CPU.

    Weights lie below `cache_home`; `home` is the worker's own folder.
    """
    on_card = config.safety_on_gpu and device.accelerator in CARDS
    return SafetySettings(
        command=(str(runtime.engine_python), str(CHILD), "--device", "cuda" if on_card else "cpu"),
        folder=home / "safety",
        log_file=logs / "bridge_safety.log",
        environment={
            # One line per event from its libraries, and warnings about its own code are nothing an owner can act on.
            "LOGURU_LEVEL": "INFO",
            "PYTHONWARNINGS": "ignore",
            **(device.environment if on_card else NO_CARDS),
            "AIWORKER_CACHE_HOME": str(cache_home),
        },
    )


def safety_rules(config: BridgeData) -> Rules:
    return Rules(allows_nsfw=config.nsfw, censors_unasked=config.censor_nsfw)


def model_facts(record: ModelRecord | None) -> dict[str, Any]:
    """A model's entry as horde-safety wants it; empty for a custom model."""
    if record is None or record.custom:
        return {}
    return {
        "name": record.name,
        "baseline": record.baseline,
        "nsfw": record.nsfw,
        "style": record.style,
        "tags": list(record.tags),
    }
