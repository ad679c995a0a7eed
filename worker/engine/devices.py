"""Which device an engine uses, as ComfyUI's flags and the driver's environment variables. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from worker.config.key_types import DeviceSettings, MemoryMode
from worker.config.schema import PIXELS_PER_POWER, BridgeData
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.engine.memory_flags import Machine, memory_arguments
from worker.engine.process import EngineSettings


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
    threads = {device: device_threads(config, device) for device in devices}
    machine = Machine(memory_bytes, largest_model_bytes, engines=sum(threads.values()))
    if config.post_process_job_overlap and config.allow_post_processing:
        wider = replace(machine, engines=machine.engines + len(devices))
        if wider.has_room:
            machine, threads = wider, {device: number + 1 for device, number in threads.items()}
    common = EngineSettings(
        python=config.comfyui_python or runtime.engine_python,
        comfyui=config.comfyui_path or runtime.comfyui,
        base_directory=folder,
        log_file=logs,
        model_paths=model_paths,
        own_custom_nodes=config.comfyui_path is not None,
        memory_limit_bytes=machine.engine_limit,
        models_kept=machine.models_kept,
        fresh_for_each_model=config.cycle_process_on_model_change,
    )
    places = [device for device in devices for _ in range(threads[device])]
    return [
        replace(
            _for_device(common, config, device, machine, sharers=threads[device]),
            base_directory=common.base_directory / str(number),
            log_file=logs / f"bridge_{number}.log",
        )
        for number, device in enumerate(places, start=1)
    ]


def device_threads(config: BridgeData, device: Device) -> int:
    """Jobs that run at the same time on a device."""
    return _own(config, device).max_threads or config.max_threads


def _own(config: BridgeData, device: Device) -> DeviceSettings:
    """What the owner says of this device; the last entry counts."""
    name = "cpu" if device.accelerator is Accelerator.CPU else device.index
    found = [entry for entry in config.device_settings if entry.device == name]
    return found[-1] if found else DeviceSettings(device=name)


def _for_device(
    common: EngineSettings, config: BridgeData, device: Device, machine: Machine, *, sharers: int
) -> EngineSettings:
    own = _own(config, device)
    if own.memory_mode is not None:
        very_high = own.memory_mode is MemoryMode.VERY_HIGH
        high = very_high or own.memory_mode is MemoryMode.HIGH
        config = config.model_copy(update={"high_memory_mode": high, "very_high_memory_mode": very_high})
    has_card = device.accelerator is not Accelerator.CPU
    return replace(
        common,
        arguments=device.arguments + memory_arguments(config, machine, has_card=has_card, sharers=sharers),
        environment=device.environment,
        device=device.name,
        max_pixels=(own.max_power or 0) * PIXELS_PER_POWER,
        models=frozenset(own.models),
    )
