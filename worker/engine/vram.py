"""How much of a card's memory other programs hold, by what the engines on it tell. Pure; the same for every vendor.

Each engine tells what the card has, what is free, and what its own torch holds. What is neither free nor held by one
of ours belongs to others: the desktop, a game, the owner's own work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.units import GIB

#: An engine's own share that torch does not know of: the driver's context and its libraries.
CONTEXT_BYTES = GIB // 2
#: What must be left for the engines: this, or the share of the card if that is more.
LEAST_BYTES, LEAST_SHARE = 3 * GIB, 0.4


@dataclass(frozen=True)
class Reading:
    """What one engine tells of its card, in bytes."""

    total: int
    free: int
    ours: int


def read(stats: Mapping[str, Any]) -> Reading | None:
    """The card in an answer of ComfyUI's /system_stats; None for a CPU, whose memory is no card's."""
    device = (stats.get("devices") or [{}])[0]
    if device.get("type", "cpu") == "cpu":
        return None
    names = ("vram_total", "vram_free", "torch_vram_total", "torch_vram_free")
    total, free, held, unused = (int(device.get(name) or 0) for name in names)
    # ComfyUI counts what torch holds and does not use as free.
    return Reading(total, free - unused, held + CONTEXT_BYTES) if total else None


def shortage(readings: Sequence[Reading]) -> str:
    """Why the engines that gave these readings of one card should get no jobs, or nothing."""
    if not readings:
        return ""
    total = readings[0].total
    free = min(reading.free for reading in readings)
    others = max(0, total - free - sum(reading.ours for reading in readings))
    if total - others >= min(total, max(LEAST_BYTES, int(total * LEAST_SHARE))) or others <= CONTEXT_BYTES:
        return ""
    return f"other programs hold {others / GIB:.1f} of its {total / GIB:.1f} GiB"
