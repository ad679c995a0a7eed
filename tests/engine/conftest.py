"""The real ComfyUI with tiny models, for every test of this folder."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from worker.demo.tiny.recipes import build_command, engine_tree, models_folder

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tiny:
    """What an engine needs: its code, its models, its Python."""

    comfyui: Path
    models: Path
    python: Path


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """Tiny models below $HORDE_TINY_DIR or runtime/tiny, built where missing; skips without an engine environment."""
    out = Path(os.environ.get("HORDE_TINY_DIR", ROOT / "runtime" / "tiny"))
    python = ROOT / "runtime" / "engine" / "bin" / "python"
    comfyui = ROOT / "runtime" / "comfyui"
    if not (python.exists() and comfyui.is_dir()):
        pytest.skip("no engine environment in runtime/; ./update-runtime.sh makes one")
    subprocess.run(build_command(python, comfyui, out), check=True, stdout=subprocess.DEVNULL, timeout=600)
    return Tiny(engine_tree(out), models_folder(out), python)
