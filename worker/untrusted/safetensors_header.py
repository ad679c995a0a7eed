"""The header of a safetensors file: bounded before it is parsed, and consistent with the file's size.

A safetensors file begins with eight bytes of length (little-endian), then that many bytes of JSON: for each tensor its
dtype, shape and the offsets of its bytes, counted from the header's end. Read it in a thread: a large header takes a
second.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from worker.errors import InputRefused
from worker.untrusted.json_reader import JsonBounds, read_json_object

#: The format allows 100 MB. A Flux checkpoint's header has 0.2 MB, an SDXL checkpoint's 0.4 MB; of a LoRA's, the notes
#: of its training take some MB at most.
MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
#: 23,000 tensors: an SDXL checkpoint has 2,500, the largest files of adapters some 8,000. More would keep the garbage
#: collector busy for longer than the event loop may wait.
_BOUNDS: Final = JsonBounds(max_bytes=MAX_HEADER_BYTES, max_values=300_000, max_depth=8)
#: The entry that is no tensor: texts by name.
METADATA: Final = "__metadata__"
#: Bits of one element by dtype (safetensors 0.8). Of a dtype that is not listed, the size is not checked.
DTYPE_BITS: Final = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
#: No library makes tensors of more dimensions, and none counts further than this.
MOST_DIMENSIONS: Final = 64
MOST_ELEMENTS: Final = 2**63


@dataclass(frozen=True)
class Tensor:
    """One tensor: its element type, its shape, and where its bytes stand after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """All that a file tells of itself. `data_bytes`: of all tensors together."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    header_bytes: int
    data_bytes: int


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Read and check the header of a whole file. Raises InputRefused, with what is wrong after "it"; OSError.

    The tensors' bytes must fill the rest of the file without gap or overlap, as the format demands.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:  # noqa: PLR2004 - the eight bytes of the header's length
            raise InputRefused("it is too short for a safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > MAX_HEADER_BYTES:
            raise InputRefused(f"it is no safetensors file: a header of {length} bytes")
        if 8 + length > size:
            raise InputRefused(f"it is cut off: {size} bytes, the header alone has {8 + length}")
        data = file.read(length)
    header = read_header(data)
    expected = 8 + header.header_bytes + header.data_bytes
    if expected != size:
        raise InputRefused(f"it is {'cut off' if size < expected else 'too long'}: {size} bytes instead of {expected}")
    return header


def read_header(data: bytes) -> SafetensorsHeader:
    """Parse the JSON of a header. Raises InputRefused."""
    try:
        entries = read_json_object(data, _BOUNDS)
        metadata = _texts(entries.pop(METADATA, {}))
        tensors = {name: _tensor(entry) for name, entry in entries.items()}
    except InputRefused as error:
        raise InputRefused(f"its safetensors header makes no sense: {error.message}") from error
    data_bytes = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != data_bytes:
            raise InputRefused(
                f"its safetensors header makes no sense: the bytes of {name[:80]!r} leave a gap or overlap"
            )
        data_bytes = tensor.end
    return SafetensorsHeader(tensors, metadata, len(data), data_bytes)


def _texts(entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict):
        return {}
    return {name: text for name, text in entry.items() if isinstance(text, str)}


def _tensor(entry: Any) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if len(
            shape
        ) <= MOST_DIMENSIONS and all(type(side) is int and 0 <= side <= MOST_ELEMENTS for side in shape):
            if not 0 <= begin <= end:
                raise InputRefused("offsets that run backwards")
            bits = DTYPE_BITS.get(dtype)
            if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
                raise InputRefused(f"{end - begin} bytes for {shape[:8]} of {dtype[:16]}")
            return Tensor(dtype, tuple(shape), begin, end)
    raise InputRefused("a tensor without type, shape or offsets")
