"""Settings of the safety child from the owner's configuration."""

from pathlib import Path
from typing import Any

from worker.config.schema import BridgeData
from worker.engine.child_log import log_variables
from worker.engine.devices import Device
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.models.catalog.records import ModelRecord
from worker.safety.child_process import CHILD, SafetySettings
from worker.safety.verdict import Rules

#: Accelerators that torch calls "cuda".
CARDS = frozenset({Accelerator.CUDA, Accelerator.ROCM})
#: Hides all cards, so that a child on the CPU takes none of their memory.
NO_CARDS = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}


def safety_settings(
    config: BridgeData, runtime: Runtime, device: Device, *, cache_home: Path, home: Path, logs: Path, aesthetic: Path
) -> SafetySettings:
    """Run the child on `device` where the owner allows it and horde-safety supports it, else on the CPU.

    `cache_home`: folder of the weights. `home`: the worker's own folder. `aesthetic`: weights of the aesthetic
    estimator, there or to come.
    """
    log = logs / "bridge_safety.log"
    on_card = config.safety_on_gpu and device.accelerator in CARDS
    return SafetySettings(
        command=(
            *(str(runtime.engine_python), str(CHILD), "--aesthetic", str(aesthetic)),
            *("--device", "cuda" if on_card else "cpu"),
        ),
        folder=home / "safety",
        log_file=log,
        environment={
            # One line per event from its libraries, and warnings about its own code are nothing an owner can act on.
            "LOGURU_LEVEL": "INFO",
            "PYTHONWARNINGS": "ignore",
            **(device.environment if on_card else NO_CARDS),
            "AIWORKER_CACHE_HOME": str(cache_home),
            **log_variables(log),
        },
    )


def safety_rules(config: BridgeData) -> Rules:
    return Rules(allows_nsfw=config.nsfw, censors_unasked=config.censor_nsfw, tells_score=config.aesthetic_score)


def model_facts(record: ModelRecord | None) -> dict[str, Any]:
    """A model's entry as horde-safety takes it; empty for a custom model."""
    if record is None or record.custom:
        return {}
    return {
        "name": record.name,
        "baseline": record.baseline,
        "nsfw": record.nsfw,
        "style": record.style,
        "tags": list(record.tags),
    }
