"""Cards that other programs use: their engines get no more jobs while too little memory is left.

Each engine tells what the card has, what is free, and what its own torch holds; one that pages weights in and out,
which torch does not count, also what it holds in all. What is neither free nor held by one of ours belongs to others:
the desktop, a game, the owner's own work.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loguru import logger

from worker.engine.slot import EngineSlot
from worker.errors import EngineError
from worker.units import GIB

#: Seconds between two looks at the cards.
CARD_CHECK_S = 20.0

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


def read(stats: Mapping[str, Any], paged: int | None) -> Reading | None:
    """The card in an answer of ComfyUI's /system_stats, and what EngineClient.paged_bytes tells.

    None for a CPU, whose memory is no card's, and where it is not known what is ours.
    """
    device = (stats.get("devices") or [{}])[0]
    if paged is None or device.get("type", "cpu") == "cpu":
        return None
    names = ("vram_total", "vram_free", "torch_vram_total", "torch_vram_free")
    total, free, held, unused = (int(device.get(name) or 0) for name in names)
    # ComfyUI counts what torch holds and does not use as free.
    return Reading(total, free - unused, max(held, paged) + CONTEXT_BYTES) if total else None


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


@dataclass
class CardWatch:
    """Asks the engines about their cards again and again."""

    ready_slots: Callable[[], Iterable[EngineSlot]]
    on_look: Callable[[], None]
    interval_s: float = CARD_CHECK_S
    #: device → why it gets no more jobs
    shortages: dict[str, str] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._look()
            self.on_look()
            await asyncio.sleep(self.interval_s)

    async def _look(self) -> None:
        readings: dict[str, list[Reading]] = {}
        for slot in list(self.ready_slots()):
            # An engine that does not answer, or not sensibly, is dealt with by its jobs.
            with contextlib.suppress(EngineError, ValueError):
                if reading := read(await slot.client.system_stats(), await slot.client.paged_bytes()):
                    readings.setdefault(slot.settings.device, []).append(reading)
        short = {device: reason for device, found in readings.items() if (reason := shortage(found))}
        for device in short.keys() - self.shortages.keys():
            logger.bind(action="card_in_use").warning("No new jobs for {}: {}.", device, short[device])
        for device in self.shortages.keys() - short.keys():
            logger.bind(action="card_free").info("{} takes jobs again.", device)
        self.shortages = short
