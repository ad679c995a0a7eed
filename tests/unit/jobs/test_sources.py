"""LoRAs and textual inversions of a job: looked for all at once, and no longer than the job can wait."""

import asyncio
from contextlib import nullcontext

import pytest

from worker.horde.wire import PopResponse
from worker.jobs.job import Job
from worker.jobs.pictures import Pictures
from worker.jobs.sources import read_job
from worker.workflows.request import Embedding, Family, LoraFile, ServedModel

MODEL = ServedModel("M", Family.STABLE_DIFFUSION_1, {"checkpoint": "m.safetensors"})


class Room:
    """Gives out everything once `needed` wishes are being looked for; never what is called "late"."""

    def __init__(self, needed=1):
        self.needed = needed
        self.looking = 0
        self.all_here = asyncio.Event()

    def running(self):
        return nullcontext()

    async def _wait(self, name):
        self.looking += 1
        if self.looking >= self.needed:
            self.all_here.set()
        await (asyncio.Event() if name == "late" else self.all_here).wait()

    async def lora(self, wish, model):
        await self._wait(wish.name)
        return LoraFile(f"{wish.name}.safetensors", wish.model, wish.clip)

    async def embedding(self, wish, model):
        await self._wait(wish.name)
        return Embedding(wish.name, wish.strength, wish.target)


def job(*, ttl=150.0, **payload):
    return Job(
        PopResponse.model_validate({"ids": ["a"], "model": "M", "ttl": ttl, "payload": {"prompt": "x", **payload}})
    )


async def test_all_additions_of_a_job_are_looked_for_at_once():
    wishes = {"loras": [{"name": "1"}, {"name": "2"}], "tis": [{"name": "3", "inject_ti": "prompt"}]}
    room = Room(needed=3)
    request = await asyncio.wait_for(read_job(job(**wishes), MODEL, room, Pictures()), 60)
    assert [lora.file for lora in request.loras] == ["1.safetensors", "2.safetensors"]
    assert "embedding:3" in request.prompt


@pytest.mark.parametrize(("kind", "payload"), [("lora", "loras"), ("ti", "tis")])
async def test_what_does_not_come_in_time_is_left_out_and_told(kind, payload):
    one = job(ttl=4.0, **{payload: [{"name": "late"}, {"name": "soon"}]})
    request = await read_job(one, MODEL, Room(), Pictures())
    assert [(m.type, m.value, m.ref) for m in one.metadata] == [(kind, "download_failed", "late")]
    if kind == "lora":
        assert [lora.file for lora in request.loras] == ["soon.safetensors"]
