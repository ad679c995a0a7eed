"""What a pickle would call, found without running it.

Files of PyTorch (.ckpt, .pt, .pth, .bin) are pickles, and a pickle is a program: it can call any function of Python.
ComfyUI's loader runs none of them but a short list, so a file with others can't be used, and is best told as that.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

#: Most bytes of a pickle that are looked at. The one in a checkpoint of 7 GB, which lists its tensors, has 0.3 MB.
MAX_BYTES: Final = 16 * 1024**2
#: Most operations that are looked at: a checkpoint's pickle has some 50,000.
MAX_OPERATIONS: Final = 1_000_000
#: PyTorch's files from before its zip format are up to five pickles in a row: magic, version, system, object, keys.
MAX_PICKLES: Final = 5

#: What a file of weights calls: containers, and the makers of tensors. Names, or whole modules where they end in a dot.
_WEIGHTS: Final = (
    "collections.OrderedDict", "collections.defaultdict", "torch._utils.", "torch._tensor.", "torch.storage.",
    "torch.nn.parameter.", "torch.serialization._get_layout", "torch.Size", "torch.Tensor", "torch.device",
    "torch.dtype", "numpy.core.multiarray.", "numpy._core.multiarray.", "numpy.dtype", "numpy.dtypes.",
    "numpy.ndarray", "_codecs.encode", "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in (
        "set", "frozenset", "dict", "list", "tuple", "int", "float", "complex", "bool", "bytearray", "str", "bytes",
        "object", "slice", "range",
    )),
)  # fmt: skip


def find_code(path: Path) -> str:
    """The first thing that a file of PyTorch calls beside what makes tensors, as `module.name`; "" if nothing.

    Returns "" too for what is no pickle. Reads `MAX_BYTES` at most. Raises OSError.
    """
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        if not is_archive:
            data = file.read(MAX_BYTES)
            return _first_foreign(io.BytesIO(data), MAX_PICKLES) if data[:1] == b"\x80" else ""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl") or name == "data.pkl":
                    with archive.open(name) as pickle:
                        return _first_foreign(io.BytesIO(pickle.read(MAX_BYTES)), 1)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError):
        return ""
    return ""


def _first_foreign(data: IO[bytes], pickles: int) -> str:
    for _ in range(pickles):
        for name in _called(data):
            if not _makes_weights(name):
                return name[:100]
        if not data.read(1):
            break
        data.seek(-1, io.SEEK_CUR)
    return ""


def _makes_weights(name: str) -> bool:
    module, _, last = name.rpartition(".")
    is_type = module == "torch" and (last.endswith("Storage") or last.islower())
    return is_type or any(name == each or (each.endswith(".") and f"{module}." == each) for each in _WEIGHTS)


def _called(data: IO[bytes]) -> Iterator[str]:
    """`module.name` of everything that one pickle looks up."""
    texts: list[str] = []
    memo: dict[int, str] = {}
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPERATIONS:
                return
            match operation.name:
                case "GLOBAL" | "INST":
                    yield str(argument).replace(" ", ".")
                case "STACK_GLOBAL":
                    yield ".".join(texts[-2:]) or "something unreadable"
                case "MEMOIZE":
                    memo[len(memo)] = texts[-1] if texts else ""
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[int(str(argument))] = texts[-1] if texts else ""
                case "GET" | "BINGET" | "LONG_BINGET":
                    texts.append(memo.get(int(str(argument)), ""))
                case name if "UNICODE" in name or "STRING" in name:
                    texts.append(str(argument)[:200])
            del texts[:-16]
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError, KeyError):
        return  # no pickle, or cut off: the engine says so
