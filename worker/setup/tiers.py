"""Settings to start with, by the card's memory and speed. Pure; `benchmark` measures afterwards what is true.

The steps are those of the table in bridgeData_template.yaml, which owners of reGen know.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from worker.setup.card import MachineFacts
from worker.units import GIB

#: RAM below which only SD1.5 is served and nothing is fetched ahead; a machine of 32 GB reports a little less.
SMALL_RAM: Final = 30 * GIB
#: Names as the drivers give them.
_FAST: Final = re.compile(r"\b(40[89]0|50[89]0|H[12]\d0|A100|L40|B200|RTX 6000|7900 XTX?|9070)", re.IGNORECASE)
_MODERATE: Final = re.compile(r"\b(30[89]0|407\d|507\d|A[456]000|A10|A40|7[89]00|6[89]00)", re.IGNORECASE)
_SLOW: Final = re.compile(r"\b(GTX|MX ?\d|[MKP]\d{1,2}\d?\b|Quadro [KMP]|RX [45]\d0)", re.IGNORECASE)


class Speed(str, Enum):
    """How fast a card is, by its name."""

    FAST = "fast"
    MODERATE = "moderate"
    USUAL = "usual"
    SLOW = "slow"
    NO_CARD = "no card"


class Models(str, Enum):
    """Which families a machine serves."""

    SD15 = "sd15"
    SDXL = "sdxl"
    FLUX = "flux"


@dataclass(frozen=True)
class Tier:
    """What a machine can do, in settings and in words."""

    title: str
    speed: Speed
    models: Models
    settings: Mapping[str, Any]
    #: why less than the card's memory allows, or what to know; may be empty
    note: str = ""


@dataclass(frozen=True)
class _Step:
    least_gib: float
    title: str
    models: Models
    settings: Mapping[str, Any]


#: A card of 24 GB reports 23.99 or, with ECC, 22.5.
_STEPS: Final = (
    _Step(22, "24 GB and more", Models.FLUX, {
        "max_power": 64, "max_batch": 8, "safety_on_gpu": True, "unload_models_from_vram_often": False,
        "high_memory_mode": True, "post_process_job_overlap": True,
    }),
    _Step(15, "16 GB", Models.FLUX, {"max_power": 50, "max_batch": 4, "safety_on_gpu": True}),
    _Step(11, "12 GB", Models.SDXL, {"max_power": 50, "max_batch": 4, "safety_on_gpu": True}),
    _Step(7.5, "8 to 10 GB", Models.SDXL, {"max_power": 32, "max_batch": 4}),
    _Step(0, "less than 8 GB", Models.SD15, {"max_power": 8}),
)  # fmt: skip
#: What every tier sets, so that no value of another card stays.
_PLAIN: Final[Mapping[str, Any]] = {
    "max_power": 8,
    "max_batch": 1,
    "max_threads": 1,
    "queue_size": 1,
    "safety_on_gpu": False,
    "high_performance_mode": False,
    "moderate_performance_mode": False,
    "post_process_job_overlap": False,
    "unload_models_from_vram_often": True,
    "high_memory_mode": False,
    "extra_slow_worker": False,
}


def speed_of(machine: MachineFacts) -> Speed:
    """How fast the machine is, by the card's name."""
    if machine.card is None:
        return Speed.NO_CARD
    for speed, names in ((Speed.FAST, _FAST), (Speed.MODERATE, _MODERATE), (Speed.SLOW, _SLOW)):
        if names.search(machine.card.name):
            return speed
    return Speed.USUAL


def tier_of(machine: MachineFacts) -> Tier:
    """What to start with on this machine."""
    speed = speed_of(machine)
    if machine.card is None:
        settings = {**_PLAIN, "queue_size": 0, "extra_slow_worker": True}
        note = "Without a card an image takes minutes; only requesters who agreed to wait are served."
        return Tier("no card", speed, Models.SD15, settings, note)
    step = next(step for step in _STEPS if machine.card.memory >= step.least_gib * GIB)
    settings = {**_PLAIN, **step.settings}
    models, note = step.models, ""
    if machine.ram < SMALL_RAM:
        settings |= {"queue_size": 0, "high_memory_mode": False, "post_process_job_overlap": False}
        if models is not Models.SD15:
            note = f"With {machine.ram / GIB:.0f} GiB of RAM larger models than SD1.5 may not fit; 32 are enough."
        models = Models.SD15
    if speed is Speed.FAST:
        settings["high_performance_mode"] = True
    elif speed is Speed.MODERATE:
        settings["moderate_performance_mode"] = True
    elif speed is Speed.SLOW:
        note = note or "Cards of this age are slow: `horde-bridge benchmark` tells whether the Horde waits for it."
    return Tier(step.title, speed, models, settings, note)
