"""The real ComfyUI with tiny models, for every test of this folder."""

import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from worker.demo.tinies import records
from worker.demo.tiny.recipes import build_command, engine_tree, models_folder
from worker.engine.client import EngineClient
from worker.engine.install.layout import environment_python, runtime_folder
from worker.engine.process import EngineProcess, EngineSettings
from worker.models.disk.store import Store
from worker.models.installed import InstalledModels
from worker.workflows.library import Library

from .studio import DEVICE_ARGUMENTS, Studio

RUNTIME = runtime_folder(Path(__file__).resolve().parents[2], os.environ)


@dataclass(frozen=True)
class Tiny:
    """What an engine needs: its code, its models, its Python."""

    comfyui: Path
    models: Path
    python: Path


@pytest.fixture(scope="session")
def engine_python() -> Path:
    """Python of the engine's environment; skips where there is none."""
    python = environment_python(RUNTIME / "engine")
    if not python.exists():
        pytest.skip(f"no engine environment in {RUNTIME}; ./update-runtime.sh makes one")
    return python


@pytest.fixture(scope="session")
def comfyui_source() -> Path:
    """ComfyUI as it was installed; skips where there is none."""
    folder = RUNTIME / "comfyui"
    if not folder.is_dir():
        pytest.skip(f"no ComfyUI in {RUNTIME}; ./update-runtime.sh installs it")
    return folder


@pytest.fixture(scope="session")
def tiny(engine_python: Path, comfyui_source: Path) -> Tiny:
    """Tiny models below $HORDE_TINY_DIR or the runtime folder, built where missing."""
    out = Path(os.environ.get("HORDE_TINY_DIR", RUNTIME / "tiny"))
    command = build_command(engine_python, comfyui_source, out)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    return Tiny(engine_tree(out), models_folder(out), engine_python)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def studio(tiny, tmp_path_factory) -> AsyncIterator[Studio]:
    folder: Path = tmp_path_factory.mktemp("studio")
    store = Store(tiny.models)
    process = EngineProcess(
        EngineSettings(
            python=tiny.python,
            comfyui=tiny.comfyui,
            base_directory=folder,
            log_file=folder / "engine.log",
            model_paths=store.model_paths(),
            arguments=DEVICE_ARGUMENTS,
        )
    )
    await process.start()
    client = EngineClient(process.url, process.token)
    try:
        await client.open()
        yield Studio(client, InstalledModels(store, records()), Library.load())
    finally:
        client.expect_end()
        await process.stop()
        await client.close()
