"""Which device an engine uses, as ComfyUI's flags and the driver's environment variables. Pure."""

from dataclasses import dataclass
from enum import Enum


class Accelerator(str, Enum):
    """The kind of card the engine's torch was installed for."""

    CUDA = "cuda"
    ROCM = "rocm"
    DIRECTML = "directml"
    CPU = "cpu"


@dataclass(frozen=True)
class Device:
    """One card, or the CPU. `index` counts as the driver does."""

    accelerator: Accelerator
    index: int = 0

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
