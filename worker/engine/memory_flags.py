"""How an engine shares the machine: ComfyUI's memory and cache flags, from the owner's modes and the memory. Pure."""

from dataclasses import dataclass

from worker.config.schema import BridgeData
from worker.units import GIB

#: What the system, the worker, the safety child and the engine itself need beside models.
RESERVED_BYTES = 6 * GIB
#: Models are kept in memory up to this many; more only delays the moment at which memory runs out.
MOST_MODELS = 6
#: Node results that a job leaves in ComfyUI's cache, its model among them.
RESULTS_PER_JOB = 10
#: GiB of a card's memory left to the desktop and to other programs, where the owner asks for no memory mode.
RESERVED_VRAM_GIB = 1.0
#: Share of the memory that all engines together may grow to before they are started afresh between two jobs.
GROWTH_LIMIT = 0.85


@dataclass(frozen=True)
class Machine:
    """What there is to share. Bytes."""

    memory: int
    #: the largest model served, all its files together
    model: int
    engines: int

    @property
    def models_kept(self) -> int:
        """Models that each engine can keep in memory."""
        return max(1, min(MOST_MODELS, self._room))

    @property
    def has_room(self) -> bool:
        """Whether each engine can have a model in memory at all."""
        return self._room >= 1

    @property
    def _room(self) -> int:
        room = (self.memory - RESERVED_BYTES) // max(self.engines, 1)
        return int(room * 0.8) // max(self.model, 1)

    @property
    def engine_limit(self) -> int:
        """Memory above which an engine gets no more jobs and is started afresh."""
        return int(self.memory * GROWTH_LIMIT) // max(self.engines, 1)


def memory_arguments(config: BridgeData, machine: Machine, *, has_card: bool, sharers: int) -> tuple[str, ...]:
    """ComfyUI's flags for one of `sharers` engines on a device.

    With room for several models ComfyUI keeps the results of as many jobs, their models with them; its
    classic cache forgets a model as soon as a job uses another.
    """
    # Said although it is the default of 0.3.75: newer versions keep by memory pressure, and forget models for it.
    arguments = ["--cache-classic"]
    if machine.models_kept > 1:
        arguments = ["--cache-lru", str(RESULTS_PER_JOB * machine.models_kept)]
    if not has_card:
        return tuple(arguments)
    if config.very_high_memory_mode:
        arguments.append("--gpu-only")
    elif config.high_memory_mode:
        arguments.append("--highvram")
    else:
        arguments += ["--reserve-vram", str(RESERVED_VRAM_GIB)]
        # Several engines on one card can't see each other's models; each gives its own back after use.
        if sharers > 1 and config.unload_models_from_vram_often:
            arguments.append("--disable-smart-memory")
    return tuple(arguments)
