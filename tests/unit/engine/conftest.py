"""A scripted engine, its script, and small graphs for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from worker.aio import timeout
from worker.demo.engine.script import Script
from worker.demo.engine.settings import scripted_settings
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess, EngineSettings

#: For things that take well under a second on an idle machine.
PATIENCE_S = 120.0


def pytest_itemcollected(item: pytest.Item) -> None:
    """Who has a script starts engines."""
    if "script_file" in getattr(item, "fixturenames", ()):
        item.add_marker("processes")


@pytest.fixture
def script_file(tmp_path: Path) -> Path:
    """The script of all engines in a test; written by the test, before or while they run."""
    return tmp_path / "script.json"


@pytest.fixture
def play(script_file: Path) -> Callable[..., None]:
    """play(seconds=…, faults=(…)): put a script in force."""

    def write(**content: Any) -> None:
        Script(**content).write(script_file)

    return write


@pytest.fixture
def settings(tmp_path: Path, script_file: Path, quick_worker_python: Path) -> EngineSettings:
    return replace(scripted_settings(tmp_path / "engine", script=script_file), python=quick_worker_python)


@pytest.fixture
def two(settings: EngineSettings, tmp_path: Path) -> list[EngineSettings]:
    """Settings of two engines that share a script."""
    folders = (tmp_path / "one", tmp_path / "two")
    return [replace(settings, base_directory=each, log_file=each / "engine.log") for each in folders]


@pytest.fixture
async def engine(settings: EngineSettings) -> AsyncIterator[EngineProcess]:
    process = EngineProcess(settings)
    await process.start()
    yield process
    await process.stop(timeout_s=0)


@pytest.fixture
async def client(engine: EngineProcess) -> AsyncIterator[EngineClient]:
    client = EngineClient(engine.url, engine.token)
    await client.open()
    yield client
    await client.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Any]:
    """await until(condition): wait for something that happens by itself."""

    async def wait(condition: Callable[[], object]) -> None:
        async with timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def plain_graph() -> Callable[..., dict[str, Any]]:
    """A batch of one colour, sent by the node "out"."""

    def build(colour: int = 0, *, width: int = 8, height: int = 8, count: int = 1) -> dict[str, Any]:
        size = {"width": width, "height": height, "batch_size": count, "color": colour}
        return {
            "image": {"class_type": "EmptyImage", "inputs": size},
            "out": {"class_type": "HordeImageOutput", "inputs": {"images": ["image", 0]}},
        }

    return build


@pytest.fixture
def sampler_graph() -> Callable[..., dict[str, Any]]:
    """An ordinary txt2img graph, its pictures sent by the node "out"."""

    def build(seed: int = 1, *, steps: int = 4, count: int = 1, checkpoint: str = "a.safetensors") -> dict[str, Any]:
        sampling = {"seed": seed, "steps": steps, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal"}
        links = {"model": ["model", 0], "positive": ["yes", 0], "negative": ["no", 0], "latent_image": ["latent", 0]}
        return {
            "model": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
            "yes": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse", "clip": ["model", 1]}},
            "no": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["model", 1]}},
            "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 96, "batch_size": count}},
            "sampler": {"class_type": "KSampler", "inputs": {**sampling, **links, "denoise": 1.0}},
            "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["model", 2]}},
            "out": {"class_type": "HordeImageOutput", "inputs": {"images": ["decode", 0]}},
        }

    return build
