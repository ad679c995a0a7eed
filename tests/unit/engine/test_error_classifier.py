"""What an engine's exception means: texts as PyTorch, ComfyUI, safetensors and drivers write them."""

from typing import Any

import pytest

from worker.engine.error_classifier import Failure, classify, classify_rejection
from worker.errors import (
    Addition,
    AdditionBroken,
    AdditionKind,
    AdditionMismatch,
    DeviceLost,
    EngineError,
    EngineNotRunnable,
    GraphRejected,
    ImageNotFinite,
    ModelBroken,
    ModelHoldsCode,
    ModelIncomplete,
    ModelMismatch,
    NodeFailed,
    OutOfMemory,
    PayloadFailed,
)

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
        ModelIncomplete,
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
    assert type(classify(Failure(exception_type, message))) is error


def test_the_message_is_one_line_that_names_the_node_and_the_exception() -> None:
    error = classify(Failure("torch.OutOfMemoryError", "\nCUDA out of memory.\nTips:\nBuy more.\n", "KSampler"))

    assert error.message == "KSampler failed: OutOfMemoryError: CUDA out of memory."
    assert "max_power" in error.remedy


WEIGHTS_ONLY = (
    "Weights only load failed. This file can still be loaded, to do so you have two options, do those steps only if "
    "you trust the source of the checkpoint.\n\t(1) Re-running `torch.load` with `weights_only` set to `False` …\n\t"
)
OTHERS = [
    # From public issues of ComfyUI, SwarmUI, krita-ai-diffusion, ROCm
    ("torch.AcceleratorError", "HIP error: an illegal memory access was encountered\nHIP kernel errors …", DeviceLost),
    ("RuntimeError", "CUDA error: no kernel image is available for execution on the device", EngineNotRunnable),
    ("torch.AcceleratorError", "HIP error: invalid device function", EngineNotRunnable),
    ("AssertionError", "Torch not compiled with CUDA enabled", EngineNotRunnable),
    ("RuntimeError", "XPU out of memory. Tried to allocate 2.00 GiB", OutOfMemory),
    ("OSError", "The paging file is too small for this operation to complete. (os error 1455)", OutOfMemory),
    ("safetensors_rust.SafetensorError", "Error while deserializing header: header too small", ModelBroken),
    ("Exception", "The safetensors file is corrupt/incomplete. Check the file size and make sure …", ModelBroken),
    ("EOFError", "Ran out of input", ModelBroken),
    ("_pickle.UnpicklingError", WEIGHTS_ONLY + "WeightsUnpickler error: Unsupported operand 118", ModelBroken),
    (
        "_pickle.UnpicklingError",
        WEIGHTS_ONLY + "WeightsUnpickler error: Unsupported global: GLOBAL posix.system was not an allowed global",
        ModelHoldsCode,
    ),
    ("_pickle.UnpicklingError", WEIGHTS_ONLY + "Unsupported class numpy.core.multiarray.scalar", ModelHoldsCode),
    ("horde_nodes_pack.output.ImageNotFinite", "the images hold values that are no numbers", ImageNotFinite),
    (
        "RuntimeError",
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
        NodeFailed,
    ),
    ("AttributeError", "'NoneType' object has no attribute 'shape'", NodeFailed),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", OutOfMemory),
    ("RuntimeError", "GET was unable to find an engine to execute this computation", OutOfMemory),
    ("RuntimeError", "Unable to find a valid cuDNN algorithm to run convolution", OutOfMemory),
    ("RuntimeError", "UR backend failed. UR backend returns:40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)", OutOfMemory),
    ("RuntimeError", "std::bad_alloc", OutOfMemory),
    ("RuntimeError", "bad allocation", OutOfMemory),
    ("safetensors_rust.SafetensorError", "Error: Cannot allocate memory (os error 12)", OutOfMemory),
    ("RuntimeError", "The GPU will not respond to more commands, most likely because of an invalid …", DeviceLost),
    ("RuntimeError", "No HIP GPUs are available", DeviceLost),
    ("torch.AcceleratorError", "CUDA error: invalid argument", DeviceLost),
    ("RuntimeError", "HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`", OutOfMemory),
    ("RuntimeError", "hipErrorNoBinaryForGpu: Unable to find code object for all current devices!", EngineNotRunnable),
    ("zipfile.BadZipFile", "File is not a zip file", ModelBroken),
    (
        "RuntimeError",
        "PytorchStreamReader failed locating file data.pkl: file not found",
        ModelBroken,
    ),
    ("NotImplementedError", "No operator found for `memory_efficient_attention_forward` with inputs", NodeFailed),
]


@pytest.mark.parametrize(("exception_type", "message", "error"), OTHERS)
def test_what_other_programs_users_saw_is_classified(
    exception_type: str, message: str, error: type[EngineError]
) -> None:
    assert type(classify(Failure(exception_type, message))) is error


LORA = Addition(AdditionKind.LORA, "style.safetensors")
TI = Addition(AdditionKind.TEXTUAL_INVERSION, "1234")
GRAPH = {
    "checkpoint": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
    "lora": {
        "class_type": "LoraLoader",
        "inputs": {"model": ["checkpoint", 0], "clip": ["checkpoint", 1], "lora_name": LORA.file},
    },
    "skip": {"class_type": "CLIPSetLastLayer", "inputs": {"clip": ["lora", 1], "stop_at_clip_layer": -2}},
    "yes": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["skip", 0], "text": "a fox, (embedding:1234:1.1)"}},
    "no": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["skip", 0], "text": "blurry"}},
    "control": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "canny.pth"}},
    "upscaler": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "4x.pth"}},
    "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "v.safetensors"}},
    "picture": {"class_type": "HordeImageInput", "inputs": {"key": "k"}},
    "guided": {"class_type": "ControlNetApplyAdvanced", "inputs": {"control_net": ["control", 0]}},
    "sampler": {"class_type": "KSampler", "inputs": {"model": ["lora", 0], "positive": ["yes", 0]}},
    "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["checkpoint", 2]}},
    "decode2": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["vae", 0]}},
}
PLAIN = {name: node for name, node in GRAPH.items() if name not in ("lora", "yes")} | {
    "skip": {"class_type": "CLIPSetLastLayer", "inputs": {"clip": ["checkpoint", 1], "stop_at_clip_layer": -2}},
    "sampler": {"class_type": "KSampler", "inputs": {"model": ["checkpoint", 0], "positive": ["no", 0]}},
    "guided sampler": {"class_type": "KSampler", "inputs": {"model": ["checkpoint", 0], "positive": ["guided", 0]}},
}
UNREADABLE = ("safetensors_rust.SafetensorError", "Error while deserializing header: InvalidHeaderDeserialization")
NONE = ("AttributeError", "'NoneType' object has no attribute 'clone'")
SHAPES = ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)")


def failed(graph: dict[str, Any], node_id: str, exception: tuple[str, str]) -> EngineError:
    return classify(Failure(*exception, graph[node_id]["class_type"], node_id), graph)


@pytest.mark.parametrize("node_id", ["checkpoint", "lora", "vae"])
def test_what_the_system_can_not_do_is_held_against_no_file(node_id: str) -> None:
    assert type(failed(GRAPH, node_id, ("OSError", "[Errno 24] Too many open files"))) is NodeFailed


@pytest.mark.parametrize(
    ("node_id", "exception", "file"),
    [
        ("checkpoint", UNREADABLE, "a.safetensors"),
        ("checkpoint", ("KeyError", "'model.diffusion_model.input_blocks.0.0.weight'"), "a.safetensors"),
        ("control", UNREADABLE, "canny.pth"),
        ("control", ("RuntimeError", "ERROR: controlnet file is invalid and does not contain a valid …"), "canny.pth"),
        ("upscaler", ("Exception", "Upscale model must be a single-image model."), "4x.pth"),
        ("vae", ("EOFError", ""), "v.safetensors"),
    ],
)
def test_the_file_that_a_failing_loader_reads_is_named(node_id: str, exception: tuple[str, str], file: str) -> None:
    error = failed(GRAPH, node_id, exception)
    assert type(error) is ModelBroken
    assert error.file == file
    assert file in error.message


@pytest.mark.parametrize(
    "exception",
    [
        UNREADABLE,
        NONE,
        ("AttributeError", "'Tensor' object has no attribute 'items'"),
        ("EOFError", ""),
        ("KeyError", "'x'"),
    ],
)
def test_whatever_a_lora_breaks_on_it_is_the_loras(exception: tuple[str, str]) -> None:
    error = failed(GRAPH, "lora", exception)
    assert isinstance(error, AdditionBroken)
    assert error.additions == {LORA}


@pytest.mark.parametrize(
    "exception",
    [
        ("RuntimeError", "coroutine raised StopIteration"),
        ("UnboundLocalError", "local variable 'embed_out'"),
        UNREADABLE,
    ],
)
def test_a_text_encoder_that_breaks_on_a_text_with_textual_inversions_blames_those(exception: tuple[str, str]) -> None:
    error = failed(GRAPH, "yes", exception)
    assert isinstance(error, AdditionBroken)
    assert error.additions == {TI}


@pytest.mark.parametrize("exception", [("IndexError", "list index out of range"), ("RecursionError", "maximum …")])
def test_a_text_encoder_that_breaks_on_a_text_alone_blames_the_requester(exception: tuple[str, str]) -> None:
    assert type(failed(GRAPH, "no", exception)) is PayloadFailed


def test_of_several_textual_inversions_in_a_text_those_are_blamed_that_fit_no_encoder() -> None:
    graph = {"yes": {"class_type": "CLIPTextEncode", "inputs": {"text": "(embedding:wide:1.1), embedding:good"}}}
    said = ("EmbeddingChangesNothing", "embedding:wide has vectors of 1024 numbers and fits no text encoder")
    error = failed(graph, "yes", said)
    assert type(error) is AdditionMismatch
    assert error.additions == {Addition(AdditionKind.TEXTUAL_INVERSION, "wide")}


def test_a_picture_that_no_node_can_read_is_the_requesters() -> None:
    assert type(failed(GRAPH, "picture", ("PIL.UnidentifiedImageError", "cannot identify image file"))) is PayloadFailed


@pytest.mark.parametrize("node_id", ["lora", "yes", "no", "sampler", "checkpoint"])
def test_what_the_hardware_lacks_is_never_a_files_or_a_texts_fault(node_id: str) -> None:
    assert type(failed(GRAPH, node_id, ("torch.OutOfMemoryError", "CUDA out of memory."))) is OutOfMemory
    assert type(failed(GRAPH, node_id, ("RuntimeError", "CUDA error: device-side assert triggered"))) is DeviceLost


@pytest.mark.parametrize(
    ("node_id", "exception", "part", "file"),
    [
        ("decode", ("RuntimeError", "ERROR: VAE is invalid: None\n\nIf the VAE is from a …"), "VAE", "a.safetensors"),
        ("decode2", NONE, "VAE", "v.safetensors"),
        ("skip", NONE, "text encoder", "a.safetensors"),
        ("no", ("RuntimeError", "ERROR: clip input is invalid: None\n\n…"), "text encoder", "a.safetensors"),
    ],
)
def test_a_checkpoint_without_a_part_is_named_with_what_it_lacks(
    node_id: str, exception: tuple[str, str], part: str, file: str
) -> None:
    error = failed(PLAIN, node_id, exception)
    assert type(error) is ModelIncomplete
    assert error.file == file
    assert f"{file} holds no {part}" in error.message


@pytest.mark.parametrize(
    "exception",
    [
        (
            "RuntimeError",
            "Given groups=1, weight of size [320, 4, 3, 3], expected input[2, 16, 64, 64] to have 4 channels",
        ),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (154x2048 and 768x320)"),
    ],
)
def test_a_checkpoint_of_another_family_is_said_as_that(exception: tuple[str, str]) -> None:
    error = failed(PLAIN, "sampler", exception)
    assert type(error) is ModelMismatch
    assert "another family" in error.remedy


def test_shapes_that_do_not_fit_are_the_files_unless_a_requester_brought_something() -> None:
    mismatch = failed(PLAIN, "sampler", SHAPES)
    assert type(mismatch) is ModelMismatch
    assert mismatch.file == "a.safetensors"
    guided = failed(PLAIN, "guided sampler", SHAPES)
    assert type(guided) is ModelMismatch
    assert guided.file == "canny.pth"
    with_additions = failed(GRAPH, "sampler", SHAPES)
    assert isinstance(with_additions, AdditionBroken)
    assert with_additions.additions == {LORA, TI}


def test_a_pickle_with_code_is_said_as_that_and_torchs_advice_is_not_repeated() -> None:
    error = failed(PLAIN, "checkpoint", OTHERS[10][:2])
    assert type(error) is ModelHoldsCode
    assert "program code" in error.message
    assert "weights_only" not in str(error)


def refused(node_id: str, kind: str = "value_not_in_list") -> dict[str, Any]:
    error = {"type": kind, "message": "Value not in list", "details": f"{node_id}: gone"}
    return {node_id: {"class_type": GRAPH[node_id]["class_type"], "errors": [error]}}


def test_a_graph_refused_for_a_file_that_is_gone_blames_the_file() -> None:
    gone = classify_rejection({"node_errors": refused("lora")}, GRAPH)
    assert isinstance(gone, AdditionBroken)
    assert gone.additions == {LORA}
    model = classify_rejection({"node_errors": refused("checkpoint") | refused("lora")}, GRAPH)
    assert type(model) is ModelBroken
    other = classify_rejection({"node_errors": refused("sampler") | refused("lora")}, GRAPH)
    assert type(other) is GraphRejected
    assert type(classify_rejection({"node_errors": refused("lora", "required_input_missing")}, GRAPH)) is GraphRejected


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"error": None, "node_errors": {"1": {"errors": []}}}, {"node_errors": [1]}, {"node_errors": {"1": 2}},
        {"node_errors": {"1": {"errors": ["x"]}}},
    ],
)  # fmt: skip
def test_a_refusal_that_says_nothing_is_one_all_the_same(answer: dict[str, Any]) -> None:
    error = classify_rejection(answer, GRAPH)
    assert type(error) is GraphRejected
    assert error.message == "ComfyUI refuses the graph: unknown reason"


def test_a_file_that_comfyui_does_not_know_is_not_said_to_be_damaged():
    error = classify(Failure("RuntimeError", "Could not detect model type of: a", "CheckpointLoaderSimple", "1"))
    assert "is no model that ComfyUI knows" in error.message
    assert "baseline" in error.remedy
    assert "downloaded again" not in error.remedy
