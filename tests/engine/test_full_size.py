"""Models of the published sizes: ComfyUI takes their shapes for the real families. No weights are made."""

import json
import subprocess
from pathlib import Path

import pytest

from worker.demo.tiny.recipes import FULL_SIZE_FILES

pytestmark = [pytest.mark.engine, pytest.mark.cpu]

TINY = Path(__file__).resolve().parents[2] / "worker" / "demo" / "tiny"
#: Makes one recipe of full_size.py without values: `checkpoint.fuse` raises where ComfyUI detects another family.
SHAPES = """
import importlib, importlib.util, json, sys
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
folder = sys.argv[2]
spec = importlib.util.spec_from_file_location("made", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["made"] = importlib.util.module_from_spec(spec)
weights = importlib.import_module("made.weights")
weights.fill = lambda shapes, seed, dtype, wide=None: weights.zeros(shapes, wide or dtype)
state = getattr(importlib.import_module("made.full_size"), sys.argv[3])()
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


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_full_size_model_has_the_published_size_and_is_detected(engine_python, comfyui_source, name):
    recipe = FULL_SIZE_FILES[name].recipe
    command = [str(engine_python), "-c", SHAPES, str(comfyui_source), str(TINY), recipe]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gigabytes"] == pytest.approx(PUBLISHED[name], rel=0.03)
