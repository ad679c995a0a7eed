"""ComfyUI's memory and cache flags, from the owner's memory modes and the machine's memory. Pure."""

from dataclasses import dataclass

from worker.config.schema import BridgeData
from worker.units import GIB

#: Memory for the system, the worker, the safety child and the engine itself, beside models.
RESERVED_BYTES = 6 * GIB
#: Most models kept in memory; more would only delay the moment at which memory runs out.
MOST_MODELS = 6
#: Node results per job in ComfyUI's cache, its model among them.
RESULTS_PER_JOB = 10
#: GiB of a card's memory reserved for other programs, unless the owner sets a memory mode. Where ComfyUI pages weights
#: in and out while it samples (dynamic VRAM), it keeps so much free at any time; otherwise it counts on that to load.
RESERVED_VRAM_GIB = 1.0
#: Share of the memory that all engines together may hold before they are replaced between two jobs.
GROWTH_LIMIT = 0.85


@dataclass(frozen=True)
class Machine:
    """The machine's memory and what shares it. Bytes."""

    memory: int
    #: the largest model served, all its files together
    model: int
    engines: int

    @property
    def models_kept(self) -> int:
        """Number of models that each engine keeps in memory."""
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
        """Memory above which an engine gets no more jobs and is replaced."""
        return int(self.memory * GROWTH_LIMIT) // max(self.engines, 1)


def memory_arguments(config: BridgeData, machine: Machine, *, has_card: bool, sharers: int) -> tuple[str, ...]:
    """ComfyUI's flags for one of `sharers` engines on a device.

    With room for several models ComfyUI keeps the results of as many jobs, their models with them; its
    classic cache forgets a model as soon as a job uses another.
    """
    # The default of 0.3.75, set explicitly because newer versions evict models under memory pressure instead.
    arguments = ["--cache-classic"]
    if machine.models_kept > 1:
        arguments = ["--cache-lru", str(RESULTS_PER_JOB * machine.models_kept)]
    if not has_card:
        return tuple(arguments)
    if not config.dynamic_vram:
        # Versions without it have no such flag, and are not given it.
        arguments.append("--disable-dynamic-vram")
    if config.very_high_memory_mode:
        arguments.append("--gpu-only")
    elif config.high_memory_mode:
        arguments.append("--highvram")
    else:
        arguments += ["--reserve-vram", str(RESERVED_VRAM_GIB)]
        # Engines on one card don't know each other's models, so each unloads its own after use.
        if sharers > 1 and config.unload_models_from_vram_often:
            arguments.append("--disable-smart-memory")
    return tuple(arguments)
