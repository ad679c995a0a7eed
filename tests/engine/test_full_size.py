"""Models of the published sizes: ComfyUI takes their shapes for the real families. No weights are made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.demo.tiny.recipes import FULL_SIZE_FILES

from .forks import Forks

pytestmark = [pytest.mark.engine, pytest.mark.cpu]

TINY = Path(__file__).resolve().parents[2] / "worker" / "demo" / "tiny"
#: Makes one recipe of full_size.py without values: `checkpoint.fuse` raises where ComfyUI detects another family.
SHAPES = """
import importlib, importlib.util, json, sys
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location("made", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["made"] = importlib.util.module_from_spec(spec)
weights = importlib.import_module("made.weights")
weights.fill = lambda shapes, seed, dtype, wide=None: weights.zeros(shapes, wide or dtype)
state = getattr(importlib.import_module("made.full_size"), sys.argv[2])()
state = state.get("params_ema", state)
print(json.dumps({"tensors": len(state), "gigabytes": sum(t.numel() * t.element_size() for t in state.values()) / 1e9}))
"""
#: Gigabytes of the published files; Flux's in fp8, the others in half precision.
PUBLISHED = {
    "full_sd15": 2.13,
    "full_sdxl": 6.94,
    "full_flux_schnell": 17.2,
    "full_cascade_b": 3.2,
    "full_sd15_control": 0.72,
    "full_realesrgan_x4": 0.067,
}


@pytest.fixture(scope="module")
def in_real_engine(quick_python: Path, comfyui_source: Path) -> Iterator[Forks]:
    """Scripts beside ComfyUI as it was installed: the copy for tiny models has other text encoders."""
    with Forks(quick_python, comfyui_source) as forks:
        yield forks


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_full_size_model_has_the_published_size_and_is_detected(in_real_engine, name):
    made = in_real_engine.run(SHAPES, TINY, FULL_SIZE_FILES[name].recipe)
    assert made["gigabytes"] == pytest.approx(PUBLISHED[name], rel=0.03)
