"""What an engine's failure means. Pure: names and messages in, one error of the tree out.

The engine tells the Python class and the text of the exception; the texts below were taken from PyTorch, ComfyUI
and safetensors. Order matters: a device that is lost often also speaks of memory.
"""

import re
from dataclasses import dataclass

from worker.errors import DeviceLost, EngineError, ModelBroken, NodeFailed, OutOfMemory


@dataclass(frozen=True)
class Signature:
    """An error class with what betrays it: part of the exception's class, or a pattern in its text."""

    error: type[EngineError]
    remedy: str
    text: re.Pattern[str]
    exception_types: tuple[str, ...] = ()

    def fits(self, exception_type: str, message: str) -> bool:
        return exception_type.endswith(self.exception_types) or bool(self.text.search(message))


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


SIGNATURES = (
    Signature(
        DeviceLost,
        "The engine is restarted; if this returns, look at the driver, the cooling and the power of the card.",
        _any_of(
            r"CUDA( driver)? error: (?!out of memory|CUBLAS_STATUS_ALLOC_FAILED)",
            r"HIP error: (?!out of memory)",
            r"illegal memory access",
            # not "assertions": PyTorch's advice after any CUDA error speaks of those
            r"device-side assert triggered",
            r"unspecified launch failure",
            r"CUBLAS_STATUS_(EXECUTION_FAILED|NOT_INITIALIZED|INTERNAL_ERROR)",
            r"CUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)",
            r"driver shutting down",
            r"GPU device instance has been suspended",
            r"no CUDA-capable device",
            r"UR_RESULT_ERROR_DEVICE_LOST",
        ),
    ),
    Signature(
        OutOfMemory,
        "Lower max_power or max_batch, or let fewer features be asked, if this happens often.",
        _any_of(
            r"out of memory",
            r"not enough memory",
            r"can't allocate memory",
            r"could not allocate tensor",
            r"CUBLAS_STATUS_ALLOC_FAILED",
            r"CUDNN_STATUS_ALLOC_FAILED",
            r"allocation on device",
            r"UR_RESULT_ERROR_OUT_OF_\w*MEMORY",
        ),
        ("OutOfMemoryError", "MemoryError"),
    ),
    Signature(
        ModelBroken,
        "The file is damaged or incomplete: let it be downloaded again.",
        _any_of(
            r"(header too large|invalid header|incomplete metadata|MetadataIncompleteBuffer|HeaderTooLarge)",
            r"PytorchStreamReader failed",
            r"could not detect model type",
            r"file .* is corrupt",
            r"unexpected EOF",
            r"pickle data was truncated",
            r"clip input is invalid: None",
        ),
        ("SafetensorError", "UnpicklingError"),
    ),
)


def classify(exception_type: str, message: str, node_type: str = "") -> EngineError:
    """The error for an exception inside the engine, its message in one line, with the node class that raised it."""
    line = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
    text = f"{node_type or 'the engine'} failed: {exception_type.rsplit('.', 1)[-1]}: {line}"
    for signature in SIGNATURES:
        if signature.fits(exception_type, message):
            return signature.error(text, remedy=signature.remedy)
    return NodeFailed(text)
