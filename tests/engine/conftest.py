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
def engine_python() -> Path:
    """Python of the engine's environment; skips where there is none."""
    python = ROOT / "runtime" / "engine" / "bin" / "python"
    if not python.exists():
        pytest.skip("no engine environment in runtime/; ./update-runtime.sh makes one")
    return python


@pytest.fixture(scope="session")
def comfyui_source() -> Path:
    """ComfyUI as it was installed; skips where there is none."""
    folder = ROOT / "runtime" / "comfyui"
    if not folder.is_dir():
        pytest.skip("no ComfyUI in runtime/; ./update-runtime.sh installs it")
    return folder


@pytest.fixture(scope="session")
def tiny(engine_python: Path, comfyui_source: Path) -> Tiny:
    """Tiny models below $HORDE_TINY_DIR or runtime/tiny, built where missing."""
    out = Path(os.environ.get("HORDE_TINY_DIR", ROOT / "runtime" / "tiny"))
    command = build_command(engine_python, comfyui_source, out)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    return Tiny(engine_tree(out), models_folder(out), engine_python)
