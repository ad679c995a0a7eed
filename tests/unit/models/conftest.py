"""Model files and records in temporary folders."""

import json
import math
import struct

import pytest

from worker.demo.files import FileServer
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose
from worker.workflows.types import Family


def safetensors(shapes, dtype="F16"):
    """A safetensors file with these tensors, all zeros."""
    header, size = {}, 0
    for name, shape in shapes.items():
        end = size + 2 * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


#: Of no family that could be told by its names.
LORA = safetensors({"x.lora_up.weight": (2, 1), "x.lora_down.weight": (1, 2), "x.alpha": ()})
EMBEDDING = safetensors({"emb_params": (1, 768)})
ANY = safetensors({"w": (4,)})


@pytest.fixture
def put():
    """Write a file with its folders; a whole safetensors file unless bytes are given."""

    def write(path, content=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ANY if content is None else content)
        return path

    return write


@pytest.fixture
def weights():
    return safetensors


@pytest.fixture
def lora():
    return LORA


@pytest.fixture
def embedding():
    return EMBEDDING


@pytest.fixture
def checkpoint():
    def make(name="m.safetensors", sha256=None, **more):
        file = ModelFile(Purpose.CHECKPOINT, name, "compvis", sha256=sha256, **more)
        return ModelRecord("M", Category.IMAGE, (file,), "stable_diffusion_xl", Family.STABLE_DIFFUSION_XL)

    return make


@pytest.fixture
def serve():
    return FileServer
