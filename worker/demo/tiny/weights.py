"""Random weights for a module of the engine, and their way to disk.

A state dict here is a plain dict of tensors. Values depend on the tensor's name and the seed alone, so that the same
recipe gives the same file, and two models of one architecture can differ by their seed.
"""

import math
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

StateDict = dict[str, torch.Tensor]
Shapes = Mapping[str, torch.Size]

#: Normal numbers that every tensor's values are cut from. A prime, so that no two rows of a matrix are alike.
POOL_SIZE = 4_194_301


def shapes_of(module: torch.nn.Module, prefix: str = "") -> dict[str, torch.Size]:
    """The shape of every tensor in the module's state dict; the module may live on the meta device."""
    return {prefix + name: tensor.shape for name, tensor in module.state_dict().items()}


def fill(shapes: Shapes, seed: int, dtype: torch.dtype, wide: torch.dtype | None = None) -> StateDict:
    """Weights that keep a signal's size from layer to layer; matrices in `wide` where given, the rest in `dtype`.

    Matrices and kernels are normal with variance 1/fan-in, embeddings have variance 1/4, biases are 0, gains 1.
    """
    return {
        name: _normal(name, shape, seed, wide or dtype) if len(shape) > 1 else _vector(name, shape, dtype)
        for name, shape in shapes.items()
    }


def _vector(name: str, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    return (torch.zeros if name.endswith(("bias", "beta")) else torch.ones)(shape, dtype=dtype)


def _normal(name: str, shape: torch.Size, seed: int, dtype: torch.dtype) -> torch.Tensor:
    deviation = 0.5 if "embed" in name and "patch" not in name else 1 / math.sqrt(math.prod(shape[1:]))
    size = math.prod(shape)
    # fp8 has no arithmetic of its own, so the numbers are tiled as bytes.
    block = (torch.roll(_pool(seed), zlib.crc32(name.encode()) % POOL_SIZE) * deviation).to(dtype)
    octets = block[:size].contiguous().view(torch.uint8)
    octets = octets.repeat(math.ceil(size / len(block)))[: size * dtype.itemsize]
    return octets.view(dtype).reshape(shape)


@cache
def _pool(seed: int) -> torch.Tensor:
    return torch.randn(POOL_SIZE, generator=torch.Generator().manual_seed(seed))


def save(state: StateDict, path: Path) -> None:
    """Write the file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial)
    partial.replace(path)
