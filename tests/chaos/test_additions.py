"""LoRAs that jobs name, with a CivitAI that does not answer."""

import hashlib
import json

import pytest

from worker.config.schema import BridgeData
from worker.demo.files import FileServer
from worker.demo.horde.records import Outcome
from worker.models.adhoc import Hosts
from worker.models.room import ModelRoom, Pace

from .rig import MODEL

pytestmark = pytest.mark.chaos

#: The smallest file that passes for a whole model: a header that lists no tensor.
EMPTY_MODEL = (2).to_bytes(8, "little") + b"{}"
ASKED = "/api/models/7"


def answer(server):
    """CivitAI's about a LoRA for SD1.5."""
    file = {
        "name": "a.safetensors", "type": "Model", "sizeKB": 0.01, "downloadUrl": f"{server.base}/lora",
        "hashes": {"SHA256": hashlib.sha256(EMPTY_MODEL).hexdigest()},
    }  # fmt: skip
    version = {"id": 70, "baseModel": "SD 1.5", "files": [file]}
    return json.dumps({"id": 7, "name": "A", "type": "LORA", "nsfw": False, "modelVersions": [version]}).encode()


@pytest.fixture
async def civitai(rig):
    """CivitAI and its files, and a models room that asks there."""
    lists = rig.folder / "lists"
    lists.mkdir()
    entry = {"name": MODEL, "baseline": "stable diffusion 1", "config": {"files": [{"path": "tiny.safetensors"}]}}
    (lists / "stable_diffusion.json").write_text(json.dumps({MODEL: entry}))
    model = rig.folder / "models" / "compvis" / "tiny.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(EMPTY_MODEL)
    rig.config = {"allow_lora": True, "queue_size": 2}
    settings = {"models_to_load": [MODEL], "model_reference": str(lists), "allow_private_downloads": True}
    async with FileServer() as server:
        server.files = {ASKED: answer(server), "/lora": EMPTY_MODEL}
        rig.models = ModelRoom(
            BridgeData.model_validate(settings),
            rig.folder / "models",
            hosts=Hosts(f"{server.base}/api", f"{server.base}/hordeling"),
            pace=Pace(first_pause_s=0.0, reserve_bytes=0),
        )
        yield server


def told(rig, request):
    return [(entry["type"], entry["value"]) for entry in rig.horde.state.deliveries(request)[0].gen_metadata]


async def test_a_civitai_that_does_not_answer_holds_up_only_the_jobs_that_need_it(rig, civitai):
    civitai.held = {ASKED}
    [needing] = rig.ask(loras=[{"name": "7"}])
    async with rig.working():
        await rig.until(lambda: civitai.requests)
        others = rig.ask(3)
        await rig.done(others)
        assert rig.outcomes() == {Outcome.OK: 3, Outcome.OPEN: 1}
        civitai.held.clear()
        await rig.done([needing])
    assert rig.outcomes() == {Outcome.OK: 4}


async def test_a_job_whose_lora_can_not_be_had_is_made_without_it_and_says_so(rig, civitai):
    civitai.files[ASKED] = b"no JSON"
    [request] = rig.ask(loras=[{"name": "7"}])
    async with rig.working():
        await rig.done([request])
    assert rig.outcomes() == {Outcome.OK: 1}
    assert told(rig, request) == [("lora", "download_failed")]


async def test_a_job_gets_the_lora_it_names(rig, civitai):
    [request] = rig.ask(loras=[{"name": "7"}])
    async with rig.working():
        await rig.done([request])
    assert rig.outcomes() == {Outcome.OK: 1}
    assert told(rig, request) == []
    assert (rig.folder / "models" / "lora" / "A_70.safetensors").read_bytes() == EMPTY_MODEL
