"""What an engine's exception means: texts as PyTorch, ComfyUI, safetensors and drivers write them."""

import pytest

from worker.engine.error_classifier import classify
from worker.errors import DeviceLost, EngineError, ModelBroken, NodeFailed, OutOfMemory, Retry

CUDA_ADVICE = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)

CASES = [
    # Memory of every kind of device
    (
        "torch.OutOfMemoryError",
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB",
        OutOfMemory,
    ),
    ("torch.cuda.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory. (out of memory)", OutOfMemory),
    ("torch.OutOfMemoryError", "HIP out of memory. Tried to allocate 1024.00 MiB. GPU 0 has …", OutOfMemory),
    ("torch.OutOfMemoryError", "Allocation on device ", OutOfMemory),
    ("torch.AcceleratorError", "CUDA error: out of memory" + CUDA_ADVICE, OutOfMemory),
    ("RuntimeError", "HIP error: out of memory\nHIP kernel errors might be asynchronously reported", OutOfMemory),
    ("RuntimeError", "MPS backend out of memory (MPS allocated: 17.30 GB, other allocations: 1.9 GB)", OutOfMemory),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OutOfMemory),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", OutOfMemory),
    ("RuntimeError", "UR backend failed. UR backend returns:39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", OutOfMemory),
    (
        "RuntimeError",
        "Could not allocate tensor with 67108864 bytes. There is not enough GPU video memory available!",
        OutOfMemory,
    ),
    (
        "RuntimeError",
        (
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 26843545600 bytes. Error code 12 (Cannot allocate memory)"
        ),
        OutOfMemory,
    ),
    ("RuntimeError", "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory", OutOfMemory),
    ("MemoryError", "", OutOfMemory),
    ("numpy._core._exceptions._ArrayMemoryError", "Unable to allocate 3.00 GiB for an array with shape", OutOfMemory),
    # Devices that are of no more use in this process
    ("torch.AcceleratorError", "CUDA error: an illegal memory access was encountered" + CUDA_ADVICE, DeviceLost),
    ("RuntimeError", "CUDA error: device-side assert triggered" + CUDA_ADVICE, DeviceLost),
    ("RuntimeError", "CUDA error: unspecified launch failure" + CUDA_ADVICE, DeviceLost),
    ("RuntimeError", "CUDA error: misaligned address" + CUDA_ADVICE, DeviceLost),
    ("RuntimeError", "HIP error: the operation cannot be performed in the present state", DeviceLost),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle …)`", DeviceLost),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", DeviceLost),
    ("RuntimeError", "The GPU device instance has been suspended. Use GetDeviceRemovedReason …", DeviceLost),
    ("RuntimeError", "No CUDA GPUs are available: no CUDA-capable device is detected", DeviceLost),
    ("RuntimeError", "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)", DeviceLost),
    ("RuntimeError", "CUDA driver error: unknown error", DeviceLost),
    # Files
    (
        "safetensors_rust.SafetensorError",
        "Error while deserializing header: incomplete metadata, file not fully covered",
        ModelBroken,
    ),
    ("safetensors_rust.SafetensorError", "Error while deserializing header: HeaderTooLarge", ModelBroken),
    ("_pickle.UnpicklingError", "invalid load key, '<'.", ModelBroken),
    (
        "RuntimeError",
        "PytorchStreamReader failed reading zip archive: failed finding central directory",
        ModelBroken,
    ),
    (
        "RuntimeError",
        "ERROR: Could not detect model type of: /models/a.safetensors\nHINT: This seems to be a Lora file",
        ModelBroken,
    ),
    (
        "RuntimeError",
        (
            "ERROR: clip input is invalid: None\n\nIf the clip is from a checkpoint loader node your checkpoint "
            "does not contain a valid clip or text encoder model."
        ),
        ModelBroken,
    ),
    # Everything else
    ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)", NodeFailed),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", NodeFailed),
    ("PIL.UnidentifiedImageError", "cannot identify image file <_io.BytesIO object at 0x7fd673cb3100>", NodeFailed),
    ("KeyError", "'model.diffusion_model.input_blocks.0.0.weight'", NodeFailed),
    ("", "", NodeFailed),
]


@pytest.mark.parametrize(("exception_type", "message", "error"), CASES)
def test_an_exception_is_classified_by_its_class_and_text(
    exception_type: str, message: str, error: type[EngineError]
) -> None:
    assert type(classify(exception_type, message)) is error


def test_the_message_is_one_line_that_names_the_node_and_the_exception() -> None:
    error = classify("torch.OutOfMemoryError", "\nCUDA out of memory.\nTips:\nBuy more.\n", "KSampler")

    assert error.message == "KSampler failed: OutOfMemoryError: CUDA out of memory."
    assert "max_power" in error.remedy


def test_only_a_lost_device_restarts_the_engine_and_only_memory_degrades_the_next_try() -> None:
    lost = classify("RuntimeError", "CUDA error: an illegal memory access was encountered")
    memory = classify("torch.OutOfMemoryError", "CUDA out of memory.")
    broken = classify("safetensors_rust.SafetensorError", "HeaderTooLarge")

    assert (lost.restarts_engine, memory.restarts_engine, broken.restarts_engine) == (True, False, False)
    assert (lost.retry, memory.retry, broken.retry) == (Retry.SAME, Retry.DEGRADED, Retry.NO)
