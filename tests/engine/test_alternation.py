"""Two models in turns on the real engine: with memory for both, neither is read again."""

import re

import pytest

from worker.config.schema import BridgeData
from worker.demo.tinies import records
from worker.engine.client import EngineClient
from worker.engine.devices import Machine, memory_arguments
from worker.engine.process import EngineProcess, EngineSettings
from worker.models.disk.store import Store
from worker.models.installed import InstalledModels
from worker.units import GIB
from worker.workflows.library import Library

from .studio import DEVICE_ARGUMENTS, Studio

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

MODELS = ("Tiny SD1.5", "Tiny SDXL")
#: The second is enough to tell whether a model is read again.
ROUNDS = 2
#: What ComfyUI says once for every checkpoint it builds from a file.
BUILT = re.compile(r"^(?:\x1b\S*\[INFO\]\x1b\[0m )?model_type ", re.MULTILINE)


@pytest.mark.parametrize(
    ("memory", "builds"),
    [
        (32 * GIB, len(MODELS)),
        # No room for two: ComfyUI's own cache, which forgets a model as soon as a job uses another.
        (8 * GIB, len(MODELS) * ROUNDS),
    ],
    ids=["room-for-both", "room-for-one"],
)
async def test_models_in_turns_are_read_once_where_there_is_memory_for_them(tiny, tmp_path, memory, builds):
    machine = Machine(memory=memory, model=4 * GIB, engines=1)
    store = Store(tiny.models)
    process = EngineProcess(
        EngineSettings(
            python=tiny.python,
            comfyui=tiny.comfyui,
            base_directory=tmp_path,
            log_file=tmp_path / "engine.log",
            model_paths=store.model_paths(),
            arguments=(*DEVICE_ARGUMENTS, *memory_arguments(BridgeData(), machine, has_card=False, sharers=1)),
        )
    )
    await process.start()
    client = EngineClient(process.url, process.token)
    try:
        await client.open()
        studio = Studio(client, InstalledModels(store, records()), Library.load(), tmp_path / "engine.log")
        for seed in range(ROUNDS):
            for model in MODELS:
                # Everything a job can differ in: no result but the model is of use to the next.
                await studio.picture(model, seed=str(seed), prompt=f"fox {seed}", width=64 + 64 * (seed % 2))
    finally:
        client.expect_end()
        await process.stop()
        await client.close()

    log = (tmp_path / "engine.log").read_text(encoding="utf-8", errors="replace")
    assert len(BUILT.findall(log)) == builds
