"""What this machine has: the card with the most memory, the memory beside it. Looks only."""

from dataclasses import dataclass

import psutil

from worker.engine.cards import DRM, CardFacts, amd_cards
from worker.engine.install.machine import Accelerator, Host, detect_card
from worker.units import GIB


@dataclass(frozen=True)
class MachineFacts:
    """What settings are chosen by. `card` None: there is none that the worker can use."""

    card: CardFacts | None
    ram: int
    accelerator: Accelerator = Accelerator.CPU

    def __str__(self) -> str:
        ram = f"{self.ram / GIB:.0f} GiB of RAM"
        if self.card is None:
            return f"no usable card, {ram}"
        memory = f" with {self.card.memory / GIB:.0f} GiB" if self.card.memory else ""
        return f"{self.card.name}{memory}, {ram}"


def machine_facts(installed: Accelerator | None = None) -> MachineFacts:
    """This machine. `installed`: what the engine was set up for, where that is known; it counts more than a look."""
    found = detect_card(Host())
    accelerator = installed or found.accelerator
    card: CardFacts | None
    match accelerator:
        case Accelerator.CUDA:
            card = _largest(_nvidia()) or CardFacts("an NVIDIA card", 0)
        case Accelerator.ROCM:
            card = _largest(amd_cards(DRM)) or CardFacts("an AMD card", 0)
        case Accelerator.DIRECTML:
            card = CardFacts("a DirectML card", 0)
        case Accelerator.CPU:
            card = None
    return MachineFacts(card, int(psutil.virtual_memory().total), accelerator)


def _largest(cards: list[CardFacts]) -> CardFacts | None:
    return max(cards, key=lambda card: card.memory, default=None)


def _nvidia() -> list[CardFacts]:
    import pynvml  # noqa: PLC0415 - only where there is such a card

    try:
        pynvml.nvmlInit()
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
            return [
                CardFacts(str(pynvml.nvmlDeviceGetName(handle)), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total))
                for handle in handles
            ]
        finally:
            pynvml.nvmlShutdown()
    except (pynvml.NVMLError, UnicodeDecodeError):  # an old driver, or one that is being updated
        return []
