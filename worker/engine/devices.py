"""Which device an engine uses, as ComfyUI's flags and the driver's environment variables. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from worker.config.schema import BridgeData
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.engine.memory import Machine, memory_arguments
from worker.engine.process import EngineSettings


@dataclass(frozen=True)
class Device:
    """One card, or the CPU. `index` counts as the driver does."""

    accelerator: Accelerator
    index: int = 0

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
        match self.accelerator:
            case Accelerator.CUDA:
                return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(self.index)}
            case Accelerator.ROCM:
                return {"HIP_VISIBLE_DEVICES": str(self.index)}
            case Accelerator.CPU | Accelerator.DIRECTML:
                return {}


def choose_devices(config: BridgeData, accelerator: Accelerator, *, cards: int) -> tuple[Device, ...]:
    """The devices the owner wants used. `auto` is every card, or the CPU where the engine has no card."""
    if accelerator is Accelerator.CPU:
        return (Device(Accelerator.CPU),)
    if config.devices == "auto":
        return tuple(Device(accelerator, index) for index in range(cards))
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
    """Settings for every engine: `max_threads` on each device, numbered from 1 in log files and below `folder`."""
    machine = Machine(memory_bytes, largest_model_bytes, engines=len(devices) * config.max_threads)
    common = EngineSettings(
        python=config.comfyui_python or runtime.engine_python,
        comfyui=config.comfyui_path or runtime.comfyui,
        base_directory=folder,
        log_file=logs,
        model_paths=model_paths,
        own_custom_nodes=config.comfyui_path is not None,
        memory_limit_bytes=machine.engine_limit,
        models_kept=machine.models_kept,
    )
    places = [device for device in devices for _ in range(config.max_threads)]
    return [
        replace(
            common,
            base_directory=common.base_directory / str(number),
            log_file=logs / f"bridge_{number}.log",
            arguments=device.arguments
            + memory_arguments(config, machine, has_card=device.accelerator is not Accelerator.CPU),
            environment=device.environment,
            device=device.name,
        )
        for number, device in enumerate(places, start=1)
    ]
