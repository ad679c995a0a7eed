"""Source pictures: what a requester sent, as the engine gets it."""

import io

import pytest
from PIL import Image

from worker.errors import JobError
from worker.horde.messages import PopResponse
from worker.jobs.job import Job
from worker.jobs.source_images import MAX_JOB_PICTURE_BYTES, PICTURE_MEMORY_BYTES, fetch_pictures
from worker.untrusted.pictures import MemoryBudget
from worker.workflows.payload import read_request
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

MODEL = ServedModel("m", Family.STABLE_DIFFUSION_1, {"checkpoint": "m.safetensors"})
INPAINTING = ServedModel("m", Family.STABLE_DIFFUSION_1, {"checkpoint": "m.safetensors"}, inpainting=True)


def png(mode: str = "RGB", size: tuple[int, int] = (100, 30), color=(255, 0, 0)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, color).save(out, "PNG")
    return out.getvalue()


class Storage:
    """The Horde's storage: what lies under which URL."""

    def __init__(self, **files: bytes) -> None:
        self.files = files

    async def fetch(self, url: str, max_bytes: int, *, deadline: float | None = None, memory=None) -> bytes:
        if url not in self.files:
            raise JobError("it is gone")
        return self.files[url]


def budget_of_a_worker() -> MemoryBudget:
    return MemoryBudget(PICTURE_MEMORY_BYTES, MAX_JOB_PICTURE_BYTES)


async def fetched(job: Job, model: ServedModel, storage: Storage):
    """The job's pictures, in a reservation that outlives the test's interest."""
    with budget_of_a_worker().reserve() as memory:
        return await fetch_pictures(job, model, storage, memory)


def job_with(**fields) -> Job:
    return Job(PopResponse(id="j", ids=["j"], payload={"width": 128, "height": 64}, model="m", **fields))


async def engine_pictures(job: Job, storage: Storage, model: ServedModel = MODEL) -> list[Image.Image]:
    with budget_of_a_worker().reserve() as memory:
        pictures = await fetch_pictures(job, model, storage, memory)
        request = read_request(
            job.pop.payload,
            model=model,
            source_processing="img2img",
            source=pictures.source,
            extra_sources=pictures.extras,
        )
        return [Image.open(io.BytesIO(data)) for data in (await pictures.encoded(request)).values()]


async def test_a_job_without_pictures_has_none():
    pictures = await fetched(job_with(), MODEL, Storage())
    assert pictures.source is None
    assert pictures.by_key == {}


async def test_a_source_picture_is_stretched_to_the_size_of_the_work():
    [picture] = await engine_pictures(job_with(source_image="a"), Storage(a=png()))
    assert picture.size == (128, 64)
    assert picture.mode == "RGB"
    assert picture.getpixel((64, 32)) == (255, 0, 0)


async def test_white_of_the_mask_becomes_transparency_and_the_color_under_it_stays():
    mask = Image.new("L", (128, 64), 0)
    mask.paste(255, (64, 0, 128, 64))
    out = io.BytesIO()
    mask.save(out, "PNG")
    job = job_with(source_image="a", source_mask="b")
    [picture] = await engine_pictures(job, Storage(a=png(size=(128, 64)), b=out.getvalue()))
    assert picture.getpixel((10, 10)) == (255, 0, 0, 255)
    assert picture.getpixel((120, 10)) == (255, 0, 0, 0)


async def test_the_color_under_the_mask_stays_when_the_picture_is_stretched():
    job = job_with(source_image="a", source_mask="b")
    [picture] = await engine_pictures(job, Storage(a=png(size=(50, 50)), b=png("L", (50, 50), 255)))
    assert picture.size == (128, 64)
    assert picture.getcolors() == [(128 * 64, (255, 0, 0, 0))]


async def test_transparency_that_shows_nothing_is_no_mask():
    job = job_with(source_image="a")
    [picture] = await engine_pictures(job, Storage(a=png("RGBA", color=(1, 2, 3, 255))))
    assert picture.mode == "RGB"
    [whole] = await engine_pictures(job, Storage(a=png("RGBA", color=(1, 2, 3, 255))), INPAINTING)
    assert whole.getchannel("A").getextrema() == (0, 0)


async def test_a_picture_with_transparency_keeps_it():
    job = job_with(source_image="a")
    pictures = await fetched(job, MODEL, Storage(a=png("RGBA", color=(1, 2, 3, 0))))
    assert pictures.source is not None
    assert pictures.source.has_alpha


@pytest.mark.parametrize(
    ("files", "value"), [({}, "download_failed"), ({"a": b"no picture"}, "parse_failed")], ids=["gone", "garbage"]
)
async def test_a_picture_that_can_not_be_had_is_told_to_the_requester(files, value):
    job = job_with(source_image="a")
    pictures = await fetched(job, MODEL, Storage(**files))
    assert pictures.source is None
    assert [(entry.type, entry.value) for entry in job.metadata] == [("source_image", value)]


async def test_extra_pictures_keep_their_strengths_and_a_missing_one_is_named_by_its_number():
    extras = [{"image": "x", "strength": 0.7}, {"image": "gone", "strength": 1}]
    job = job_with(source_image="a", extra_source_images=extras)
    pictures = await fetched(job, MODEL, Storage(a=png(), x=png()))
    assert [extra.strength for extra in pictures.extras] == [0.7]
    assert [(entry.type, entry.ref) for entry in job.metadata] == [("extra_source_images", "1")]


async def test_no_more_extra_pictures_are_fetched_than_are_used():
    storage = Storage(a=png(), x=png())
    asked = []

    async def fetch(url, max_bytes, *, deadline=None, memory=None):
        asked.append(url)
        return storage.files[url]

    storage.fetch = fetch
    job = job_with(source_image="a", extra_source_images=[{"image": "x", "strength": 1}] * 10_000)
    pictures = await fetched(job, MODEL, storage)
    assert len(pictures.extras) == 5
    assert sorted(asked) == ["a", *["x"] * 5]


async def test_extra_pictures_keep_their_own_shape_because_they_are_only_looked_at():
    job = job_with(source_image="a", extra_source_images=[{"image": "x", "strength": 1}])
    pictures = await engine_pictures(job, Storage(a=png(), x=png(size=(90, 40))))
    assert [picture.size for picture in pictures] == [(128, 64), (90, 40)]


async def test_an_inpainting_model_without_a_picture_gets_noise_to_paint_over_entirely():
    job = job_with()
    [picture] = await engine_pictures(job, Storage(), INPAINTING)
    [again] = await engine_pictures(job_with(), Storage(), INPAINTING)
    assert picture.mode == "RGBA"
    assert picture.getchannel("A").getextrema() == (0, 0)
    assert picture.tobytes() == again.tobytes()
    assert (await fetched(job, INPAINTING, Storage())).source.stand_in
    # Nobody asked for a picture, so nobody is told that there was none.
    assert job.metadata == []


async def test_a_requesters_own_picture_is_no_stand_in():
    pictures = await fetched(job_with(source_image="a"), INPAINTING, Storage(a=png()))
    assert not pictures.source.stand_in


async def test_keys_are_the_jobs_own():
    one = await fetched(job_with(source_image="a"), MODEL, Storage(a=png()))
    pop = PopResponse(id="k", ids=["k"], payload={}, model="m", source_image="a")
    other = await fetched(Job(pop), MODEL, Storage(a=png()))
    assert one.by_key.keys().isdisjoint(other.by_key.keys())


class Held(Storage):
    """Takes what it hands out from the job's memory, as the Horde's client does."""

    async def fetch(self, url: str, max_bytes: int, *, deadline: float | None = None, memory=None) -> bytes:
        data = await super().fetch(url, max_bytes)
        await memory.take(len(data))
        return data


async def test_of_a_jobs_pictures_only_what_the_engine_gets_stays_in_memory():
    budget = MemoryBudget(PICTURE_MEMORY_BYTES)
    extras = [{"image": "x", "strength": 1}] * 3
    job = job_with(source_image="a", source_mask="m", extra_source_images=extras)
    storage = Held(a=png(size=(500, 400)), m=png("L", (100, 100), 255), x=png(size=(300, 300)))
    with budget.reserve() as memory:
        pictures = await fetch_pictures(job, MODEL, storage, memory)
        request = read_request(job.pop.payload, model=MODEL, source_processing="img2img", source=pictures.source)
        sent = await pictures.encoded(request)
        assert budget.used_bytes == sum(map(len, sent.values()))
    assert budget.used_bytes == 0


async def test_a_job_whose_pictures_are_too_many_bytes_together_goes_on_without_the_last():
    budget = MemoryBudget(10_000_000, 1_500_000)
    extras = [{"image": "x", "strength": 1}] * 5
    job = job_with(source_image="a", extra_source_images=extras)
    storage = Held(a=png(size=(500, 400)), x=png(size=(500, 400)))
    with budget.reserve() as memory:
        pictures = await fetch_pictures(job, MODEL, storage, memory)
    assert pictures.source is not None
    assert {(entry.type, entry.value) for entry in job.metadata} == {("extra_source_images", "parse_failed")}


async def test_grey_of_16_bits_becomes_grey_of_8_bits_on_its_way_to_the_engine():
    out = io.BytesIO()
    Image.new("I;16", (128, 64), 32768).save(out, "PNG")
    [picture] = await engine_pictures(job_with(source_image="a"), Storage(a=out.getvalue()))
    assert picture.getpixel((5, 5)) == (128, 128, 128)
