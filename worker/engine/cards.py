"""The cards in this machine, counted as their drivers count them."""

from pathlib import Path

from loguru import logger

from worker.engine.install.machine import Accelerator

#: Below this an AMD device is the graphics part of a processor, which shares the machine's memory.
LEAST_VRAM_BYTES = 3 * 1024**3
DRM = Path("/sys/class/drm")
AMD_VENDOR = "0x1002"


def count_cards(accelerator: Accelerator) -> int:
    """Cards of this kind, at least 1: where they can't be counted, the first is used."""
    match accelerator:
        case Accelerator.CUDA:
            return max(1, _count_nvidia())
        case Accelerator.ROCM:
            return max(1, _count_amd(DRM))
        case Accelerator.DIRECTML | Accelerator.CPU:
            return 1


def _count_nvidia() -> int:
    import pynvml  # noqa: PLC0415 - only where there is such a card

    try:
        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        logger.warning("The NVIDIA driver does not tell its cards ({}); the first is used.", error)
        return 1


def _count_amd(drm: Path) -> int:
    count = 0
    for device in drm.glob("card[0-9]*/device"):
        if "-" in device.parent.name:  # a connector of a card, not a card
            continue
        try:
            vendor = (device / "vendor").read_text().strip()
            vram = int((device / "mem_info_vram_total").read_text())
        except (OSError, ValueError):
            continue
        count += vendor == AMD_VENDOR and vram >= LEAST_VRAM_BYTES
    return count
