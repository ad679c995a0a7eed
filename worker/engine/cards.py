"""The cards in this machine, counted as their drivers count them."""

import contextlib
import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from loguru import logger

from worker.engine.devices import Device
from worker.engine.install.machine import Accelerator

#: Below this an AMD device is the graphics part of a processor, which shares the machine's memory.
LEAST_VRAM_BYTES = 3 * 1024**3
DRM = Path("/sys/class/drm")
AMD_VENDOR = "0x1002"
#: By these an owner leaves each of several workers its own cards; the first that is set counts.
VARIABLES = {
    Accelerator.CUDA: ("CUDA_VISIBLE_DEVICES",),
    Accelerator.ROCM: ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
}
#: An entry there: a number, or the driver's name of a card or of a part of one.
CARD = re.compile(r"[0-9]{1,3}|(?:GPU|MIG)-\S+")


class CardFacts(NamedTuple):
    """A card's name and its memory in bytes; 0: not known."""

    name: str
    memory: int


def find_cards(accelerator: Accelerator, environment: Mapping[str, str]) -> tuple[Device, ...]:
    """The cards of this kind: those that a variable of the driver names, else all. Where they can't be counted, the
    first.
    """
    for variable in VARIABLES.get(accelerator, ()):
        if (written := environment.get(variable)) is not None:
            return tuple(Device(accelerator, card, variable) for card in _listed(written))
    return tuple(Device(accelerator, index) for index in range(_count(accelerator)))


def card_count(accelerator: Accelerator) -> int | None:
    """How many cards of this kind the driver counts; None if it does not say, or for other kinds than NVIDIA."""
    return _count_nvidia() if accelerator is Accelerator.CUDA else None


def _listed(written: str) -> tuple[int | str, ...]:
    """The cards of such a variable, as the drivers read it: up to the first entry that names none."""
    entries = takewhile(CARD.fullmatch, (entry.strip() for entry in written.split(",")))
    return tuple(dict.fromkeys(int(entry) if entry.isdecimal() else entry for entry in entries))


def _count(accelerator: Accelerator) -> int:
    match accelerator:
        case Accelerator.CUDA:
            return _count_nvidia() or 1
        case Accelerator.ROCM:
            return max(1, len(amd_cards(DRM)))
        case Accelerator.DIRECTML:
            return 1
        case Accelerator.CPU:
            return 0


def _count_nvidia() -> int | None:
    import pynvml  # noqa: PLC0415 - only where there is such a card

    try:
        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        logger.warning("The NVIDIA driver does not list its cards ({}); the first is used.", error)
        return None


def amd_cards(drm: Path) -> list[CardFacts]:
    """AMD's cards by the kernel's files; those without memory of their own are left out."""
    found = []
    for device in drm.glob("card[0-9]*/device"):
        if "-" in device.parent.name:  # a connector of a card, not a card
            continue
        try:
            vendor = (device / "vendor").read_text().strip()
            memory = int((device / "mem_info_vram_total").read_text())
        except (OSError, ValueError):
            continue
        if vendor == AMD_VENDOR and memory >= LEAST_VRAM_BYTES:
            name = ""
            with contextlib.suppress(OSError):
                name = (device / "product_name").read_text(errors="replace").strip()
            found.append(CardFacts(name or "an AMD card", memory))
    return found
