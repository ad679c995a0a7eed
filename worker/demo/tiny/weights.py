"""Random weights for a module of the engine, and their way to disk.

A state dict here is a plain dict of tensors. Values depend on the tensor's name and the seed alone, so that the same
recipe gives the same file, and two models of one architecture can differ by their seed. A tensor on the meta device
stands for zeros: the file gets a hole in its place, which takes no room on disk.
"""

import json
import math
import zlib
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

import torch

StateDict = dict[str, torch.Tensor]
Shapes = Mapping[str, torch.Size]

#: Normal numbers that every tensor's values are cut from. A prime, so that no two rows of a matrix are alike.
POOL_SIZE = 4_194_301

#: Enough for a window over the largest matrix, with the steps of `_window`.
THIN_POOL_SIZE = 262_144

#: Endings of PyTorch's own archives.
PICKLED = (".pth", ".pt", ".bin")

#: Names of types in a safetensors header.
TYPE_NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
}


def shapes_of(module: torch.nn.Module, prefix: str = "") -> dict[str, torch.Size]:
    """The shape of every tensor in the module's state dict; the module may live on the meta device."""
    return {prefix + name: tensor.shape for name, tensor in module.state_dict().items()}


def fill(shapes: Shapes, seed: int, dtype: torch.dtype, wide: torch.dtype | None = None) -> StateDict:
    """Weights that keep a signal's size from layer to layer; matrices in `wide` where given, the rest in `dtype`.

    Matrices and kernels are normal with variance 1/fan-in, embeddings have variance 1/4, biases are 0, gains 1.
    """
    return {
        name: _normal(name, shape, seed, wide or dtype)
        if math.prod(shape) > max(shape, default=1)
        else _vector(name, shape, dtype)
        for name, shape in shapes.items()
    }


def zeros(shapes: Shapes, dtype: torch.dtype) -> StateDict:
    """Nothing but zeros, and no room taken."""
    return {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()}


def thin(shapes: Shapes, seed: int) -> StateDict:
    """Weights of the same sizes as `fill` gives, for networks that only exist in full size: all share a few numbers.

    A matrix is a window that slides over the shared numbers, so that a file of it takes a few megabytes.
    """
    return {
        name: _window(shape, seed) if math.prod(shape) > max(shape, default=1) else _vector(name, shape, torch.float32)
        for name, shape in shapes.items()
    }


def _window(shape: torch.Size, seed: int) -> torch.Tensor:
    steps = (31, 7, 3, 1)[-len(shape) :]
    numbers = _thin_pool(seed, round(math.log2(math.prod(shape[1:])) / 2))
    return numbers.as_strided(shape, steps)


@cache
def _thin_pool(seed: int, halvings: int) -> torch.Tensor:
    """Deviations in powers of two, so that there are few of them."""
    return _pool(seed)[:THIN_POOL_SIZE] / 2**halvings


def _vector(name: str, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    return (torch.zeros if name.endswith(("bias", "beta", "running_mean")) else torch.ones)(shape, dtype=dtype)


def _normal(name: str, shape: torch.Size, seed: int, dtype: torch.dtype) -> torch.Tensor:
    deviation = 0.5 if "embed" in name and "embedder" not in name else 1 / math.sqrt(math.prod(shape[1:]))
    start = zlib.crc32(name.encode()) % POOL_SIZE
    end = start + math.prod(shape)
    octets = _octets(seed, deviation, dtype)
    if end > POOL_SIZE:
        octets = octets.repeat(math.ceil(end / POOL_SIZE))
    return octets[start * dtype.itemsize : end * dtype.itemsize].clone().view(dtype).reshape(shape)


@lru_cache(maxsize=32)
def _octets(seed: int, deviation: float, dtype: torch.dtype) -> torch.Tensor:
    """The pool as bytes of the type: fp8 has no arithmetic of its own, and repeating needs some."""
    return (_pool(seed) * deviation).to(dtype).view(torch.uint8)


@cache
def _pool(seed: int) -> torch.Tensor:
    return torch.randn(POOL_SIZE, generator=torch.Generator().manual_seed(seed))


def save(state: StateDict | bytes, path: Path) -> None:
    """Write the file whole or not at all: bytes as they are, safetensors, or a PyTorch archive by the name."""
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(state, bytes):
        partial.write_bytes(state)
    elif path.suffix in PICKLED:
        torch.save(state, partial)
    else:
        _save_with_holes(state, partial)
    partial.replace(path)


def _save_with_holes(state: StateDict, path: Path) -> None:
    """Safetensors, by hand: the library has no way to leave zeros out of the file's blocks."""
    entries: dict[str, dict] = {}
    end = 0
    for name, tensor in state.items():
        start, end = end, end + tensor.numel() * tensor.dtype.itemsize
        entries[name] = {"dtype": TYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        data = file.tell()
        for name, tensor in state.items():
            if not tensor.is_meta:
                file.seek(data + entries[name]["data_offsets"][0])
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        file.truncate(data + end)
