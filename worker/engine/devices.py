"""Which device an engine uses, and how its memory: ComfyUI's flags and the driver's environment variables. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from worker.config.key_types import DeviceSettings, MemoryMode
from worker.config.schema import PIXELS_PER_POWER, BridgeData
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.engine.process import EngineSettings
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
class Device:
    """One card, or the CPU. `index` counts as the driver does, or is the driver's name for a card."""

    accelerator: Accelerator
    index: int | str = 0
    #: the driver's variable that `index` was taken from; none: NVIDIA's cards are counted by their place on the bus
    variable: str = ""

    @property
    def name(self) -> str:
        """In words, for people and to tell devices apart."""
        return "cpu" if self.accelerator is Accelerator.CPU else f"{self.accelerator.value}:{self.index}"

    @property
    def arguments(self) -> tuple[str, ...]:
        match self.accelerator:
            case Accelerator.CPU:
                return ("--cpu",)
            case Accelerator.DIRECTML:
                return ("--directml", str(self.index))
            case Accelerator.ROCM:
                # The fastest attention that needs nothing extra there.
                return ("--use-pytorch-cross-attention",)
            case Accelerator.CUDA:
                return ()

    @property
    def environment(self) -> dict[str, str]:
        """Makes this device the only one, and hence number 0, that the engine sees."""
        if self.variable:
            return {self.variable: str(self.index)}
        match self.accelerator:
            case Accelerator.CUDA:
                return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(self.index)}
            case Accelerator.ROCM:
                return {"HIP_VISIBLE_DEVICES": str(self.index)}
            case Accelerator.CPU | Accelerator.DIRECTML:
                return {}


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


def choose_devices(config: BridgeData, accelerator: Accelerator, *, cards: Sequence[Device]) -> tuple[Device, ...]:
    """The devices the owner wants used. `auto` is all of `cards`, or the CPU where the engine has no card."""
    if accelerator is Accelerator.CPU:
        return (Device(Accelerator.CPU),)
    if config.devices == "auto":
        return tuple(cards) or (Device(Accelerator.CPU),)
    return tuple(
        Device(Accelerator.CPU) if device == "cpu" else Device(accelerator, int(device)) for device in config.devices
    )


def engine_settings(
    config: BridgeData,
    runtime: Runtime,
    *,
    devices: Sequence[Device],
    model_paths: dict[str, dict[str, str]],
    folder: Path,
    logs: Path,
    memory_bytes: int,
    largest_model_bytes: int,
) -> list[EngineSettings]:
    """Settings for every engine: `max_threads` on each device, numbered from 1 in log files and below `folder`.

    Where the owner wants post-processing to overlap with the next job, each device has one engine more, if the
    memory has room for its model. One graph does a whole job: two engines overlap by themselves, and nothing has to
    be carried from one to another.
    """
    threads = {device: _own(config, device).max_threads or config.max_threads for device in devices}
    machine = Machine(memory_bytes, largest_model_bytes, engines=sum(threads.values()))
    if config.post_process_job_overlap and config.allow_post_processing:
        wider = replace(machine, engines=machine.engines + len(devices))
        if wider.has_room:
            machine, threads = wider, {device: number + 1 for device, number in threads.items()}

    def engine(number: int, device: Device) -> EngineSettings:
        own = _own(config, device)
        flags = memory_arguments(
            _with_memory_mode(config, own.memory_mode),
            machine,
            has_card=device.accelerator is not Accelerator.CPU,
            sharers=threads[device],
        )
        return EngineSettings(
            python=config.comfyui_python or runtime.engine_python,
            comfyui=config.comfyui_path or runtime.comfyui,
            base_directory=folder / str(number),
            log_file=logs / f"bridge_{number}.log",
            model_paths=model_paths,
            arguments=device.arguments + flags,
            environment=device.environment,
            own_custom_nodes=config.comfyui_path is not None,
            memory_limit_bytes=machine.engine_limit,
            device=device.name,
            models_kept=machine.models_kept,
            fresh_for_each_model=config.cycle_process_on_model_change,
            max_pixels=(own.max_power or 0) * PIXELS_PER_POWER,
            models=frozenset(own.models),
        )

    places = [device for device in devices for _ in range(threads[device])]
    return [engine(number, device) for number, device in enumerate(places, start=1)]


def _own(config: BridgeData, device: Device) -> DeviceSettings:
    """What the owner says of this device; the last entry counts."""
    name = "cpu" if device.accelerator is Accelerator.CPU else device.index
    found = [entry for entry in config.device_settings if entry.device == name]
    return found[-1] if found else DeviceSettings(device=name)


def _with_memory_mode(config: BridgeData, mode: MemoryMode | None) -> BridgeData:
    """The settings with the mode of one device, where that has one of its own."""
    if mode is None:
        return config
    very_high = mode is MemoryMode.VERY_HIGH
    high = very_high or mode is MemoryMode.HIGH
    return config.model_copy(update={"high_memory_mode": high, "very_high_memory_mode": very_high})


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
