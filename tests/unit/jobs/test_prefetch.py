"""Files of a popped job's model are read before the engine asks for them."""

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from worker.engine.process import EngineSettings
from worker.engine.slot import EngineSlot
from worker.horde.messages import PopResponse
from worker.jobs import prefetch as prefetch_module
from worker.jobs.job import Job, JobEvents, Stage
from worker.jobs.prefetch import Prefetch, find_files, read_ahead
from worker.system_memory import SystemMemory
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

SETTINGS = EngineSettings(Path("python"), Path("comfyui"), Path("engine"), Path("log"))


@pytest.fixture
def asked(monkeypatch):
    """The paths that are read ahead, each call a tuple; reading ends when `ends` is set."""
    calls = SimpleNamespace(paths=[], ends=threading.Event(), begun=threading.Event())

    def read(paths, stop):
        calls.paths.append(tuple(path.name for path in paths))
        calls.begun.set()
        while not (calls.ends.is_set() or stop.is_set()):
            stop.wait(0.01)
        return 1

    monkeypatch.setattr(prefetch_module, "read_ahead", read)
    return calls


@asynccontextmanager
async def stand(folder: Path):
    """A prefetch at work on models a, b and c, with the slot and the events around it."""
    for name in "abc":
        (folder / f"{name}.safetensors").write_bytes(b"weights")
    slot = EngineSlot(1, replace(SETTINGS, model_paths={"worker": {"checkpoints": str(folder)}}))
    models = SimpleNamespace(
        model=lambda name: (
            ServedModel(name, Family.STABLE_DIFFUSION_1, {"checkpoint": f"{name}.safetensors"})
            if name in "abc"
            else None
        )
    )
    pool: Any = SimpleNamespace(slots=[slot], ready_slots=[slot])
    events = JobEvents()
    async with Prefetch(models, pool).running(events) as prefetch:
        yield SimpleNamespace(prefetch=prefetch, slot=slot, events=events)


def pop(events: JobEvents, model: str) -> None:
    events.enter(Job(PopResponse(id="j", model=model), popped_at=0.0), Stage.POPPED)


async def idle(prefetch: Prefetch) -> None:
    while prefetch._under_way:
        await asyncio.sleep(0.01)


async def test_a_popped_jobs_model_is_read_once_for_all_jobs_that_wait_for_it(tmp_path, asked):
    async with stand(tmp_path) as at:
        pop(at.events, "a")
        pop(at.events, "a")
        asked.ends.set()
        await idle(at.prefetch)
        pop(at.events, "a")
        await idle(at.prefetch)
    assert asked.paths == [("a.safetensors",)] * 2


async def test_a_model_that_an_engine_has_in_memory_is_not_read(tmp_path, asked):
    async with stand(tmp_path) as at:
        at.slot.uses("a")
        pop(at.events, "a")
        pop(at.events, "unknown")
        assert not at.prefetch._under_way
    assert asked.paths == []


async def test_no_more_than_two_models_are_under_way(tmp_path, asked):
    async with stand(tmp_path) as at:
        for name in "abc":
            pop(at.events, name)
        asked.ends.set()
        await idle(at.prefetch)
    assert asked.paths == [("a.safetensors",), ("b.safetensors",)]


async def test_the_end_of_the_worker_does_not_wait_for_a_slow_disk(tmp_path, asked):
    async with stand(tmp_path) as at:
        pop(at.events, "a")
        pop(at.events, "b")
        await asyncio.to_thread(asked.begun.wait)
    assert not asked.ends.is_set()
    assert asked.paths[0] == ("a.safetensors",)


def test_files_are_found_where_comfyui_finds_them_first(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "two" / "a.safetensors").touch()
    (tmp_path / "one" / "vae.safetensors").touch()
    (tmp_path / "two" / "vae.safetensors").touch()
    both = f"{tmp_path / 'one'}\n{tmp_path / 'two'}"
    paths = {"worker": {"diffusion_models": both}, "other": {"vae": both, "checkpoints": both}}
    files = {"unet": "a.safetensors", "vae": "vae.safetensors", "text_encoder": "none.safetensors"}
    assert find_files(files, paths) == (tmp_path / "two" / "a.safetensors", tmp_path / "one" / "vae.safetensors")


@pytest.mark.parametrize("advice", [True, False])
def test_reading_ahead_covers_whole_files_and_survives_what_is_missing(tmp_path, monkeypatch, advice):
    monkeypatch.setattr(prefetch_module, "CHUNK_BYTES", 10)
    if not advice:
        monkeypatch.delattr(prefetch_module.os, "posix_fadvise", raising=False)
    whole = tmp_path / "whole"
    whole.write_bytes(b"0123456789" * 3 + b"end")
    assert read_ahead([tmp_path / "missing", whole, whole], threading.Event()) == 66


def test_reading_ahead_stops_when_told_and_leaves_memory_for_others(tmp_path, monkeypatch):
    monkeypatch.setattr(prefetch_module, "CHUNK_BYTES", 10)
    whole = tmp_path / "whole"
    whole.write_bytes(b"0123456789" * 3)
    stop = threading.Event()
    stop.set()
    assert read_ahead([whole], stop) == 10
    monkeypatch.setattr(prefetch_module, "system_memory", lambda: SystemMemory(4 * 1024**3, 2 * 1024**3))
    assert read_ahead([whole], threading.Event()) == 0
