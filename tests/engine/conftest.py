"""The real ComfyUI with tiny models, for every test of this folder."""

import hashlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from worker.demo.tinies import records
from worker.demo.tiny.recipes import TINY_MODELS, build_command, engine_tree, models_folder
from worker.engine.client import EngineClient
from worker.engine.install.layout import Runtime
from worker.engine.process import EngineProcess, EngineSettings
from worker.models.disk.store import Store
from worker.models.installed import InstalledModels
from worker.workflows.library import Library

from .forks import Forks
from .studio import DEVICE_ARGUMENTS, Studio

MODELS = [model.name for model in TINY_MODELS]


@dataclass(frozen=True)
class Tiny:
    """What an engine needs: its code, its models, its Python."""

    comfyui: Path
    models: Path
    python: Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests of one model follow one another: to read a model takes longer than most pictures of it."""
    block = [item for item in items if _model_of(item)]
    if not block:
        return
    place = items.index(block[0])
    block.sort(key=lambda item: MODELS.index(_model_of(item)))
    others = [item for item in items[place:] if not _model_of(item)]
    items[place:] = [*block, *others]


def _model_of(item: pytest.Item) -> str:
    """The model that the test is about on the session's engine; "" for other tests."""
    callspec = getattr(item, "callspec", None)
    model = callspec.params.get("model") if callspec is not None and "studio" in item.fixturenames else None
    return model if model in MODELS else ""


@pytest.fixture(scope="session")
def engine_python(runtime: Runtime) -> Path:
    """Python of the engine's environment."""
    return runtime.engine_python


@pytest.fixture(scope="session")
def comfyui_source(runtime: Runtime) -> Path:
    """ComfyUI as it was installed."""
    return runtime.comfyui


@pytest.fixture(scope="session")
def tiny(runtime: Runtime, quick_python: Path) -> Tiny:
    """Tiny models in the runtime folder, built where missing; for another ComfyUI in a folder of its own."""
    own = runtime.comfyui == Runtime.locate().comfyui
    out = runtime.folder / ("tiny" if own else f"tiny-{hashlib.sha256(bytes(runtime.comfyui)).hexdigest()[:12]}")
    command = build_command(quick_python, runtime.comfyui, out)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    return Tiny(engine_tree(out), models_folder(out), quick_python)


@pytest.fixture(scope="session")
def in_engine(tiny: Tiny) -> Iterator[Forks]:
    """Scripts beside the ComfyUI of the tiny models."""
    with Forks(tiny.python, tiny.comfyui) as forks:
        yield forks


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
            # As the worker always says: newer versions have another default.
            arguments=(*DEVICE_ARGUMENTS, "--cache-classic"),
        )
    )
    await process.start()
    client = EngineClient(process.url, process.token)
    try:
        await client.open()
        yield Studio(client, InstalledModels(store, records()), Library.load(), folder / "engine.log")
    finally:
        client.expect_end()
        await process.stop()
        await client.close()
