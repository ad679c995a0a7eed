"""Model files in trouble while the worker serves: a CivitAI that does not answer, a checkpoint that can't be read."""

import hashlib
import json

import pytest

from worker.config.schema import BridgeData
from worker.demo.engine.script import Fault, FaultKind
from worker.demo.files import FileServer
from worker.demo.horde.records import Outcome
from worker.models.loras.lora_fetcher import LoraHosts
from worker.models.model_manager import ManagerTimes, ModelManager

from .rig import MODEL

pytestmark = pytest.mark.chaos

#: The smallest file that passes for a whole model: a header that lists no tensor.
EMPTY_MODEL = (2).to_bytes(8, "little") + b"{}"
_LAYER = b'{"x.lora_up.weight": {"dtype": "F16", "shape": [1, 1], "data_offsets": [0, 2]},'
_LAYER += b'"x.lora_down.weight": {"dtype": "F16", "shape": [1, 1], "data_offsets": [2, 4]}}'
LORA = len(_LAYER).to_bytes(8, "little") + _LAYER + b"0000"
ASKED = "/api/models/7"


def answer(server):
    """CivitAI's about a LoRA for SD1.5."""
    file = {
        "name": "a.safetensors", "type": "Model", "sizeKB": 0.01, "downloadUrl": f"{server.base}/lora",
        "hashes": {"SHA256": hashlib.sha256(LORA).hexdigest()},
    }  # fmt: skip
    version = {"id": 70, "baseModel": "SD 1.5", "files": [file]}
    return json.dumps({"id": 7, "name": "A", "type": "LORA", "nsfw": False, "modelVersions": [version]}).encode()


@pytest.fixture
async def hosts(rig):
    """CivitAI and a file host in one, and a model source that asks there."""
    lists = rig.folder / "lists"
    lists.mkdir()
    checkpoint(rig).parent.mkdir(parents=True)
    checkpoint(rig).write_bytes(EMPTY_MODEL)
    rig.config = {"allow_lora": True, "queue_size": 2}
    settings = {"models_to_load": [MODEL], "model_reference": str(lists), "allow_private_downloads": True}
    async with FileServer() as server:
        server.files = {ASKED: answer(server), "/lora": LORA, "/model": EMPTY_MODEL}
        sha256 = hashlib.sha256(EMPTY_MODEL).hexdigest()
        entry = {
            "name": MODEL, "baseline": "stable diffusion 1",
            "config": {
                "files": [{"path": "tiny.safetensors", "sha256sum": sha256}],
                "download": [{"file_name": "tiny.safetensors", "file_url": f"{server.base}/model"}],
            },
        }  # fmt: skip
        (lists / "stable_diffusion.json").write_text(json.dumps({MODEL: entry}))
        rig.models = ModelManager(
            BridgeData.model_validate(settings),
            rig.folder / "models",
            hosts=LoraHosts(f"{server.base}/api", f"{server.base}/hordeling"),
            times=ManagerTimes(first_pause_s=0.0, reserve_bytes=0),
        )
        yield server


def checkpoint(rig):
    return rig.folder / "models" / "compvis" / "tiny.safetensors"


def told(rig, request):
    return [(entry["type"], entry["value"]) for entry in rig.horde.state.deliveries(request)[0].gen_metadata]


async def test_a_civitai_that_does_not_answer_holds_up_only_the_jobs_that_need_it(rig, hosts):
    hosts.held = {ASKED}
    [needing] = rig.ask(loras=[{"name": "7"}])
    async with rig.working():
        await rig.until(lambda: hosts.requests)
        others = rig.ask(3)
        await rig.done(others)
        assert rig.outcomes() == {Outcome.OK: 3, Outcome.OPEN: 1}
        hosts.held.clear()
        await rig.done([needing])
    assert rig.outcomes() == {Outcome.OK: 4}


async def test_a_job_whose_lora_can_not_be_had_is_made_without_it_and_says_so(rig, hosts):
    hosts.files[ASKED] = b"no JSON"
    [request] = rig.ask(loras=[{"name": "7"}])
    async with rig.working():
        await rig.done([request])
    assert rig.outcomes() == {Outcome.OK: 1}
    assert told(rig, request) == [("lora", "download_failed")]


async def test_a_job_gets_the_lora_it_names(rig, hosts):
    [request] = rig.ask(loras=[{"name": "7"}])
    async with rig.working():
        await rig.done([request])
    assert rig.outcomes() == {Outcome.OK: 1}
    assert told(rig, request) == []
    assert (rig.folder / "models" / "lora" / "A_70.safetensors").read_bytes() == LORA


async def test_a_checkpoint_no_engine_can_read_is_set_aside_fetched_again_and_served(rig, hosts):
    checkpoint(rig).write_bytes((3).to_bytes(8, "little") + b"{ }")
    rig.play(faults=(Fault(FaultKind.MODEL_BROKEN),))
    [request] = rig.ask()
    async with rig.working():
        await rig.done([request])
    # The Horde hands the job out once more when the model is offered again.
    assert rig.outcomes() == {Outcome.FAULTED: 1, Outcome.OK: 1}
    assert checkpoint(rig).read_bytes() == EMPTY_MODEL
    assert checkpoint(rig).with_name("tiny.safetensors.broken").exists()
    assert [asked["path"] for asked in hosts.requests] == ["/model"]
