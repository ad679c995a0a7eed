"""What a job names: looked for all at once, and no longer than the job can wait; and the files it can't do without."""

import asyncio
import json

import pytest

from tests.chaos.rig import OneModel
from worker.errors import Addition, AdditionKind, JobNotServable
from worker.horde.messages import PopResponse
from worker.jobs.broken_additions import BrokenAdditions
from worker.jobs.inputs import read_job, require_files
from worker.jobs.job import Job
from worker.jobs.source_images import Pictures
from worker.untrusted.pictures import MemoryBudget, Reservation
from worker.workflows import packaged_folder
from worker.workflows.auxiliary_files import needs
from worker.workflows.library import Library
from worker.workflows.payload import read_request
from worker.workflows.request import Embedding, LoraFile, ServedModel, SourceImage
from worker.workflows.template_selection import select
from worker.workflows.types import Family

MODEL = ServedModel("M", Family.STABLE_DIFFUSION_1, {"checkpoint": "m.safetensors"})

NO_PICTURES = Pictures(Reservation(MemoryBudget(0)))


class Room(OneModel):
    """Gives out everything once `needed` wishes are being looked for; never what is called "late"."""

    def __init__(self, needed=1):
        super().__init__()
        self.needed = needed
        self.looking = 0
        self.all_here = asyncio.Event()

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
    request = (await asyncio.wait_for(read_job(job(**wishes), MODEL, room, NO_PICTURES), 60)).request
    assert [lora.file for lora in request.loras] == ["1.safetensors", "2.safetensors"]
    assert "embedding:3" in request.prompt


@pytest.mark.parametrize(("kind", "payload"), [("lora", "loras"), ("ti", "tis")])
async def test_what_does_not_come_in_time_is_left_out_and_told(kind, payload):
    one = job(ttl=4.0, **{payload: [{"name": "late"}, {"name": "soon"}]})
    request = (await read_job(one, MODEL, Room(), NO_PICTURES)).request
    assert [(m.type, m.value, m.ref) for m in one.metadata] == [(kind, "download_failed", "late")]
    if kind == "lora":
        assert [lora.file for lora in request.loras] == ["soon.safetensors"]


@pytest.mark.parametrize(("ids", "n_iter"), [(["a"], 4), (["a", "b"], 1), (["a", "b", "c"], "many"), (["a"], None)])
async def test_as_many_images_are_made_as_the_horde_wants_answers(ids, n_iter):
    pop = PopResponse.model_validate({"ids": ids, "model": "M", "ttl": 150.0, "payload": {"n_iter": n_iter}})
    assert (await read_job(Job(pop), MODEL, Room(), NO_PICTURES)).request.batch == len(ids)


OWN_CONTROL = """
description: A ControlNet of the owner's own, for SDXL.
serves: {families: [stable_diffusion_xl], modes: [txt2img], features: [picture, control, annotate]}
nodes: {noise: EmptyImage}
bind: {noise.width: width, noise.height: height, noise.batch_size: batch}
ports: {image: noise.0}
outputs: [output]
ignores: [prompt, negative_prompt, seed, steps, cfg, sampler, scheduler, denoise, clip_skip]
"""
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
        "_meta": {"title": "noise"},
    },
    "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}, "_meta": {"title": "output"}},
}
SOURCE = SourceImage("key", 64, 64)


class Files(OneModel):
    def __init__(self, *absent):
        super().__init__()
        self.absent = set(absent)

    def has(self, file):
        return file.name not in self.absent


def requested(family=Family.STABLE_DIFFUSION_1, **payload):
    model = ServedModel("M", family, {"checkpoint": "m.safetensors"})
    return read_request({"seed": "1", **payload}, model=model, source=SOURCE)


def test_a_job_whose_files_are_here_is_taken_and_one_whose_are_not_is_refused_with_their_names():
    request = requested(control_type="depth")
    plan = select(Library.load(), request)
    require_files(request, plan, Files())
    absent = ("annotator/ckpts/res101.pth", "diff_control_sd15_depth_fp16.safetensors")
    for name in absent:
        with pytest.raises(JobNotServable, match=f"controlnet/{name}, not here"):
            require_files(request, plan, Files(name))


def test_a_job_is_asked_for_no_files_of_what_its_template_leaves_aside():
    request = requested(control_type="seg", workflow="qr_code", transparent=True)
    plan = select(Library.load(), request)
    assert plan.template.name == "qr_code/checkpoint"
    needed = needs(request, but_for=plan.does_without)
    assert [file.name for file in needed] == ["control_v1p_sd15_qrcode_monster_v2.safetensors"]


def test_an_owners_template_that_does_it_in_its_own_way_needs_none_of_our_files(tmp_path):
    folder = tmp_path / "own" / "control"
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_text(OWN_CONTROL, "utf-8")
    (folder / "graph.json").write_text(json.dumps(GRAPH), "utf-8")
    library = Library.load(packaged_folder(), tmp_path, approved_classes={"EmptyImage"})
    assert library.violations == ()
    request = requested(Family.STABLE_DIFFUSION_XL, control_type="canny")
    plan = select(library, request)
    assert plan.template.name == "own/control"
    assert needs(request, but_for=plan.does_without) == ()


async def test_upscalers_that_there_is_no_time_for_are_left_out_and_the_requester_told():
    asked = {"width": 512, "height": 512, "post_processing": ["RealESRGAN_x2plus", "RealESRGAN_x4plus", "CodeFormers"]}
    in_time, late = job(**asked), job(**asked)
    whole = (await read_job(in_time, MODEL, Room(), NO_PICTURES)).request
    told = []

    def budget(request, deadline):
        told.append((request, deadline))
        return 512 * 512 + 1

    cut = (await read_job(late, MODEL, Room(), NO_PICTURES, upscale_budget_px=budget)).request
    assert whole.post_processing == ("CodeFormers", "RealESRGAN_x2plus", "RealESRGAN_x4plus")
    assert cut.post_processing == ("CodeFormers", "RealESRGAN_x2plus")
    assert told == [(whole, late.deadline)]
    assert any("RealESRGAN_x4plus" in (entry.ref or "") for entry in late.metadata)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(AdditionKind.LORA, {"loras": [{"name": "1"}]}), (AdditionKind.TEXTUAL_INVERSION, {"tis": [{"name": "1"}]})],
)
async def test_what_engines_could_not_use_lately_is_left_out_from_the_start_and_told(kind, payload):
    one = job(prompt="a fox embedding:1 (embedding:1:1.2)", **payload)
    file = "1.safetensors" if kind is AdditionKind.LORA else "1"
    broken = BrokenAdditions()
    broken.note({Addition(kind, file)})
    request = (await read_job(one, MODEL, Room(), NO_PICTURES, broken=broken)).request
    assert [(m.type, m.value, m.ref) for m in one.metadata] == [(kind.value, "parse_failed", "1")]
    assert request.loras == ()
    assert ("embedding:1" in request.prompt) is (kind is AdditionKind.LORA)
