"""What a failure inside an engine means. Pure: exception, node and graph in, one error of the tree out.

ComfyUI tells the class and text of a node's exception. The texts below are those of PyTorch, ComfyUI, safetensors and
drivers, from their sources and from public issues. Order matters: a device that is lost often speaks of memory too,
and a text encoder that runs out of memory is no fault of the text. What follows an error, out of memory among them,
is in `worker.after_fault`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.engine.graph_trace import (
    PARTS,
    Graph,
    additions_of,
    all_additions,
    embeddings_in,
    file_of,
    files_behind,
    source_of,
)
from worker.errors import (
    Addition,
    AdditionBroken,
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


@dataclass(frozen=True)
class Failure:
    """A node's exception. `exception_type` is a dotted Python name, `node_type` a node class; all may be empty."""

    exception_type: str
    message: str
    node_type: str = ""
    node_id: str = ""

    @property
    def text(self) -> str:
        """Node, exception and the first line of its text, as one line."""
        line = next((line.strip() for line in self.message.splitlines() if line.strip()), "no message")
        return f"{self.node_type or 'the engine'} failed: {self.exception_type.rsplit('.', 1)[-1]}: {line}"


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


#: PyTorch has no kernels for this card: every job fails until another build is installed.
_NO_KERNELS = _any_of(
    r"no kernel image is available", r"(CUDA|HIP) error: invalid device function", r"hipErrorNoBinaryForGpu",
    r"Torch not compiled with CUDA enabled",
)  # fmt: skip
_DEVICE = _any_of(
    r"CUDA( driver)? error: (?!out of memory|CUBLAS_STATUS_ALLOC_FAILED)",
    r"HIP error: (?!out of memory)",
    r"illegal memory access",
    # not "assertions": PyTorch's advice after any CUDA error speaks of those
    r"device-side assert triggered",
    r"unspecified launch failure",
    r"CUBLAS_STATUS_(EXECUTION_FAILED|NOT_INITIALIZED|INTERNAL_ERROR)",
    r"HIPBLAS_STATUS_(EXECUTION_FAILED|NOT_INITIALIZED|INTERNAL_ERROR)",
    r"CUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)(?!\w*ALLOCATION_FAILED)",
    r"miopenStatus(InternalError|UnknownError)",
    r"GPU will not respond to more commands",
    r"DXGI_ERROR_DEVICE_(HUNG|REMOVED|RESET)",
    r"No (CUDA|HIP) GPUs are available",
    r"GPU is lost",
    r"driver shutting down",
    r"GPU device instance has been suspended",
    r"no CUDA-capable device",
    r"UR_RESULT_ERROR_DEVICE_LOST",
)
_MEMORY = _any_of(
    r"out of memory",
    r"not enough memory",
    r"can't allocate memory",
    r"cannot allocate memory",
    r"could not allocate tensor",
    r"(CUBLAS|HIPBLAS|CUDNN)_STATUS_ALLOC_FAILED",
    r"miopenStatusAllocFailed",
    r"allocation on device",
    r"UR_RESULT_ERROR_OUT_OF_\w*MEMORY",
    r"paging file is too small",
    r"bad[_ ]alloc",
    r"ALLOCATION_FAILED",
    r"OUT_OF_RESOURCES",
    # What cuDNN says when no algorithm fits into the memory that is left.
    r"unable to find (a valid cuDNN algorithm|an engine to execute)",
)
_MEMORY_TYPES = ("OutOfMemoryError", "MemoryError")
#: What torch says of a pickle that names other things than tensors. It also advises to load it all the same.
_CODE = _any_of(r"Unsupported (global|class)", r"not an allowed global", r"can only build .* found")
_DAMAGE = _any_of(
    r"(header too (large|small)|invalid header|incomplete metadata|MetadataIncompleteBuffer|Header\w*Too\w+)",
    r"safetensors file is corrupt",
    r"PytorchStreamReader failed",
    r"file .* is corrupt",
    r"unexpected (EOF|end of)",
    r"Ran out of input",
    r"pickle data was truncated",
    r"Weights only load failed",
)
_DAMAGE_TYPES = ("SafetensorError", "UnpicklingError", "EOFError", "BadZipFile")
#: ComfyUI finds no architecture it knows; a file cut short is found by its header before.
_UNKNOWN_MODEL = _any_of(r"could not detect model type", r"unsupported model")
_SHAPES = _any_of(
    r"shapes cannot be multiplied",
    r"expected input.* to have \d+ channels",
    r"size mismatch for",
    r"Error\(s\) in loading state_dict",
)
_INVALID = re.compile(r"is invalid: None")
_NONE = re.compile(r"'NoneType' object")
#: Classes of the node pack for additions that fit no part of the model.
_CHANGE_NOTHING = ("LoraChangesNothing", "EmbeddingChangesNothing")
#: Nodes that work on a requester's own picture or text, beside text encoders.
_REQUESTERS_NODES = frozenset({"HordeImageInput", "HordeQrCode"})
#: Errors of the system, which say nothing of a file that was being read; of a missing file they do.
_SYSTEM_TYPES = ("OSError", "PermissionError", "BlockingIOError", "TimeoutError", "ConnectionError")

#: Of 0.3.75 and of 0.33.0.
_ABSENT_CLASS = _any_of(r"node .* does not exist", r"Node '.*' not found")

LEFT_OUT = "It is left out, and the requester is told."
RELOAD = "The file is damaged or incomplete: let it be downloaded again."


def classify(failure: Failure, graph: Graph | None = None) -> EngineError:
    """The error for a node's exception. `graph` tells which file the node reads; without it none is named."""
    graph = graph or {}
    for rule in (_hardware, _parts, _additions, _payload, _files, _shapes):
        if error := rule(failure, graph):
            return error
    return NodeFailed(failure.text)


def _hardware(failure: Failure, _graph: Graph) -> EngineError | None:
    if failure.exception_type.endswith("ImageNotFinite"):
        return ImageNotFinite(
            "The engine computed no picture but NaN or infinite values.",
            remedy="If it returns with every model: the card's memory, its driver or a speed flag; with one: its VAE.",
        )
    if _NO_KERNELS.search(failure.message):
        return EngineNotRunnable(
            failure.text, remedy="This build of PyTorch does not know the card: run update-runtime for another one."
        )
    if _DEVICE.search(failure.message):
        return DeviceLost(
            failure.text,
            remedy="The engine is restarted; if it returns, look at the driver, the cooling and the power of the card.",
        )
    if failure.exception_type.endswith(_MEMORY_TYPES) or _MEMORY.search(failure.message):
        return OutOfMemory(
            failure.text,
            node_type=failure.node_type,
            remedy="Lower max_power or max_batch, or let fewer features be asked, if this happens often.",
        )
    return None


def _parts(failure: Failure, graph: Graph) -> EngineError | None:
    """A loader that gave nothing for what a later node needs."""
    if not _INVALID.search(failure.message):
        # A text encoder says it clearly; what a requester brought may fail like this for reasons of its own.
        if not _NONE.search(failure.message) or "TextEncode" in failure.node_type:
            return None
        if additions_of(graph, failure.node_id):
            return None
    inputs = graph.get(failure.node_id, {}).get("inputs", {})
    for part, what in PARTS.items():
        if part in inputs or re.search(rf"\b{part}\b.* is invalid: None", failure.message, re.IGNORECASE):
            file = source_of(graph, failure.node_id, part)
            return ModelIncomplete(
                f"{file or 'The model file'} holds no {what}: {failure.text}",
                file=file,
                remedy="Take a file of the model that holds all its parts.",
            )
    return None


def _additions(failure: Failure, graph: Graph) -> EngineError | None:
    """A LoRA's loader, or a text encoder that reads textual inversions."""
    additions = additions_of(graph, failure.node_id)
    if not additions or failure.exception_type.endswith(_SYSTEM_TYPES):
        return None
    # Of several in one text the node pack names those that are to blame.
    additions = additions & embeddings_in(failure.message) or additions
    names = _named(additions)
    names = f"{names[0].upper()}{names[1:]}"
    if failure.exception_type.endswith(_CHANGE_NOTHING):
        return AdditionMismatch(
            f"{names} changes nothing: made for models of another family.", additions=additions, remedy=LEFT_OUT
        )
    what = "holds program code" if _CODE.search(failure.message) else "can't be used"
    return AdditionBroken(f"{names} {what}: {failure.text}", additions=additions, remedy=LEFT_OUT)


def _payload(failure: Failure, _graph: Graph) -> EngineError | None:
    if "TextEncode" in failure.node_type or failure.node_type in _REQUESTERS_NODES:
        return PayloadFailed(failure.text, remedy="Nothing to do: it is what this requester sent.")
    return None


def _files(failure: Failure, graph: Graph) -> EngineError | None:
    _, file = file_of(graph, failure.node_id)
    name = file or "A model file"
    if _CODE.search(failure.message):
        return ModelHoldsCode(
            f"{name} holds program code and is not loaded.", file=file, remedy="Take the model as .safetensors."
        )
    if _UNKNOWN_MODEL.search(failure.message) or failure.exception_type.endswith("UnsupportedModelError"):
        return ModelBroken(
            f"{name} is no model that ComfyUI knows: {failure.text}", file=file,
            remedy="Check that the file holds a whole model; for a model of your own, check its baseline too.",
        )  # fmt: skip
    if failure.exception_type.endswith(_DAMAGE_TYPES) or _DAMAGE.search(failure.message):
        return ModelBroken(f"{name} can't be read: {failure.text}", file=file, remedy=RELOAD)
    # Whatever else a loader raises: it had nothing to do but to read its file.
    if file and not failure.exception_type.endswith(_SYSTEM_TYPES):
        return ModelBroken(f"{name} can't be read: {failure.text}", file=file, remedy=RELOAD)
    return None


def _shapes(failure: Failure, graph: Graph) -> EngineError | None:
    if not _SHAPES.search(failure.message) or failure.node_id not in graph:
        return None
    if additions := all_additions(graph):
        names = _named(additions)
        return AdditionBroken(
            f"A model with {names} does not compute: {failure.text}",
            additions=additions,
            remedy="They are left out, and the requester is told.",
        )
    behind = dict(files_behind(graph, failure.node_id))
    if "control_net_name" in behind:
        return ModelMismatch(
            f"{behind['control_net_name']} does not go with the model: {failure.text}",
            file=behind["control_net_name"],
            remedy="Take a ControlNet of the model's family.",
        )
    file = behind.get("unet_name") or behind.get("ckpt_name", "")
    return ModelMismatch(
        f"{file or 'The model'} does not fit its template: {failure.text}",
        file=file,
        remedy="Its file is of another family than declared: correct the baseline in the list of custom models.",
    )


def classify_rejection(answer: Mapping[str, Any], graph: Graph) -> EngineError:
    """The error for ComfyUI's refusal of a graph: the answer to POST /prompt. A file that is gone is named."""
    errors = [
        (str(node_id), str(node.get("class_type", "?")), error)
        for node_id, node in _objects(answer.get("node_errors"))
        for error in node.get("errors") or ()
        if isinstance(error, Mapping)
    ]
    said = [f"{kind} ({node_id}): {_sentence(error)}" for node_id, kind, error in errors]
    top = answer.get("error")
    if not said and (absent := _absent_class(top, graph)):
        said = [absent]
    if not said:
        said = [_sentence(top) if isinstance(top, Mapping) else str(top or "unknown reason")]
    message = "ComfyUI refuses the graph: " + "; ".join(said)
    remedy = "Run `workflows check`."
    missing = [node_id for node_id, _, error in errors if error.get("type") == "value_not_in_list"]
    if missing and len(missing) == len(errors):
        if all(additions_of(graph, node_id) and file_of(graph, node_id)[1] for node_id in missing):
            additions = frozenset().union(*(additions_of(graph, node_id) for node_id in missing))
            return AdditionBroken(message, additions=additions, remedy=LEFT_OUT)
        files = [file_of(graph, node_id)[1] for node_id in missing]
        if all(files):
            return ModelBroken(message, file=files[0], remedy="The engine does not see the file: look at its folder.")
    return GraphRejected(message, remedy=remedy)


def _absent_class(error: Any, graph: Graph) -> str:
    """Which node class of the graph the engine does not have, where it says so; versions word that differently, and
    newer ones name the node's title alone.
    """
    said = f"{error.get('message')} {error.get('details')}" if isinstance(error, Mapping) else ""
    if not _ABSENT_CLASS.search(said):
        return ""
    node_id = next((node_id for node_id in graph if f"Node ID '#{node_id}'" in said), "")
    return f"it has no node class {graph.get(node_id, {}).get('class_type', '?')} ({node_id})"


def _named(additions: Iterable[Addition]) -> str:
    return ", ".join(sorted(map(str, additions)))


def _sentence(error: Mapping[str, Any]) -> str:
    return f"{error.get('message') or ''} {error.get('details') or ''}".strip() or "unknown reason"


def _objects(found: Any) -> list[tuple[Any, Mapping[str, Any]]]:
    return [each for each in found.items() if isinstance(each[1], Mapping)] if isinstance(found, Mapping) else []
