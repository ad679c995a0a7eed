"""A LoRA and a textual inversion that arrive while ComfyUI runs: it sees the new files, and they change the picture."""

import asyncio
import hashlib
import json
import shutil
from dataclasses import replace

import pytest

from worker.aio import timeout
from worker.app.run import serve
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.demo.files import FileServer
from worker.demo.horde.records import Baseline, ImageRequest, ModelFacts
from worker.demo.horde.server import serve_in_thread
from worker.demo.horde.state import EmbeddedHorde
from worker.demo.run import tiny_worker
from worker.demo.tiny.recipes import TINY_EMBEDDINGS, TINY_LORAS, TINY_MODELS
from worker.engine.install import Runtime
from worker.models.loras.lora_fetcher import LoraHosts
from worker.models.model_manager import ManagerTimes, ModelManager

pytestmark = pytest.mark.engine

PATIENCE_S = 300.0
MODEL = TINY_MODELS[0]
LORA, EMBEDDING = TINY_LORAS[0], TINY_EMBEDDINGS[0]


def sold(server, kind, addition, content):
    """What CivitAI says of an addition."""
    url = f"/{addition.version_id}.safetensors"
    server.files[url] = content
    file = {
        "name": "x.safetensors", "type": "Model", "sizeKB": len(content) / 1024, "downloadUrl": server.base + url,
        "hashes": {"SHA256": hashlib.sha256(content).hexdigest()},
    }  # fmt: skip
    version = {"id": addition.version_id, "baseModel": "SD 1.5", "files": [file]}
    model = {"id": addition.version_id, "name": addition.name, "type": kind, "modelVersions": [version]}
    server.files[f"/api/models/{addition.version_id}"] = json.dumps(model).encode()


def room(tiny, folder, server):
    """A model source with the tiny model, and neither LoRAs nor textual inversions."""
    file = MODEL.files[0]
    root = folder / "models"
    (root / file.folder).mkdir(parents=True)
    shutil.copy(tiny.models / file.path, root / file.path)
    lists = folder / "lists"
    lists.mkdir()
    entry = {"name": MODEL.name, "baseline": MODEL.baseline, "config": {"files": [{"path": file.file_name}]}}
    (lists / "stable_diffusion.json").write_text(json.dumps({MODEL.name: entry}))
    settings = {"models_to_load": [MODEL.name], "model_reference": str(lists), "allow_private_downloads": True}
    return ModelManager(
        BridgeData.model_validate(settings),
        root,
        hosts=LoraHosts(f"{server.base}/api", f"{server.base}/hordeling"),
        times=ManagerTimes(first_pause_s=0.0, reserve_bytes=0),
    )


async def test_additions_that_come_while_the_engine_runs_are_used(tiny, tmp_path):
    state = EmbeddedHorde(models={MODEL.name: ModelFacts(Baseline.SD1)}, seed=1)

    def ask(**params):
        asked = {"width": 64, "height": 64, "steps": 2, "cfg_scale": 5.0, "seed": "7", **params}
        return state.enqueue(ImageRequest(prompt="a fox", models=(MODEL.name,), params=asked, nsfw=False))

    def picture(request):
        [delivery] = state.deliveries(request)
        assert [entry for entry in delivery.gen_metadata if entry["value"] == "download_failed"] == []
        return delivery.picture().pixels

    async with FileServer() as server:
        sold(server, "LORA", LORA, (tiny.models / LORA.file.path).read_bytes())
        sold(server, "TextualInversion", EMBEDDING, (tiny.models / EMBEDDING.file.path).read_bytes())
        models = room(tiny, tmp_path, server)
        with serve_in_thread(state) as horde:
            setup = tiny_worker(Runtime.locate(), f"{horde.url}/api", [MODEL], logs=tmp_path)
            data = setup.live.data.model_copy(update={"allow_lora": True, "max_power": 1})
            engines = [
                replace(
                    engine, comfyui=tiny.comfyui, python=tiny.python, base_directory=tmp_path / "engine",
                    model_paths=models.store.model_paths(),
                )
                for engine in setup.engines
            ]  # fmt: skip
            setup = replace(setup, live=LiveConfig(data), engines=engines, models=models)
            stop = asyncio.Event()
            serving = asyncio.ensure_future(serve(setup, stop))
            try:
                async with timeout(PATIENCE_S):
                    plain = ask()
                    await asyncio.to_thread(state.wait, [plain], timeout_s=PATIENCE_S)
                    with_lora = ask(loras=[{"name": str(LORA.version_id), "model": 1.0}])
                    with_embedding = ask(tis=[{"name": str(EMBEDDING.version_id), "inject_ti": "prompt"}])
                    await asyncio.to_thread(state.wait, [with_lora, with_embedding], timeout_s=PATIENCE_S)
                    stop.set()
                    await serving
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
    pictures = {picture(request) for request in (plain, with_lora, with_embedding)}
    assert len(pictures) == 3
    assert {path.suffix for path in (tmp_path / "models").glob("*/*.safetensors")} == {".safetensors"}
    assert (tmp_path / "models" / "ti" / f"{EMBEDDING.version_id}.safetensors").exists()
