"""Model files and records in temporary folders."""

import json
import struct

import pytest

from worker.demo.files import FileServer
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose
from worker.workflows.types import Family


def safetensors(payload=b"weights!"):
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}}).encode()
    return struct.pack("<Q", len(header)) + header + payload


@pytest.fixture
def put():
    """Write a file with its folders; a whole safetensors file unless bytes are given."""

    def write(path, content=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(safetensors() if content is None else content)
        return path

    return write


@pytest.fixture
def checkpoint():
    def make(name="m.safetensors", sha256=None, **more):
        file = ModelFile(Purpose.CHECKPOINT, name, "compvis", sha256=sha256, **more)
        return ModelRecord("M", Category.IMAGE, (file,), "stable_diffusion_xl", Family.STABLE_DIFFUSION_XL)

    return make


@pytest.fixture
def serve():
    return FileServer
