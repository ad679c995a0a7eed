"""A job's source pictures: fetched, opened, with the mask in the alpha channel, resized to what the graph works at.

What can't be fetched or opened is left out and told to the requester in the metadata, as the Horde's other workers do.
Pictures are held in memory only, all of a job's in one reservation of the memory that all jobs share.
"""

import asyncio
import io
import random
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from loguru import logger
from PIL import Image, ImageChops

from worker.errors import InputRefused, JobError, JobLate
from worker.horde.messages import GenMetadata
from worker.jobs.job import Job
from worker.units import MIB
from worker.untrusted.pictures import BYTES_PER_PIXEL, Reservation
from worker.workflows.payload import MAX_EXTRA_SOURCES
from worker.workflows.request import ExtraSource, RenderRequest, ServedModel, SourceImage

#: The server hands out WebP of at most 3072 x 3072 pixels, 10 MB at the worst; a PNG of that size has 28 MB.
MAX_PICTURE_BYTES = 32 * MIB
#: Memory for the pictures of all jobs, and of one: a source picture of 3072 x 3072 takes 38 MB and its mask 9.
PICTURE_MEMORY_BYTES = 96 * MIB
MAX_JOB_PICTURE_BYTES = 80 * MIB
#: The engine on this machine reads the PNG once: time counts, size does not.
PNG_LEVEL = 1


@dataclass
class Pictures:
    """What a job brought. `by_key`: what the graph asks the engine for; the source as pixels, extras as PNG."""

    memory: Reservation
    source: SourceImage | None = None
    extras: list[ExtraSource] = field(default_factory=list)
    by_key: dict[str, Image.Image | bytes] = field(default_factory=dict)

    async def encoded(self, request: RenderRequest) -> dict[str, bytes]:
        """Every picture as PNG: the source at the size the request works at, the extras as they came.

        A ControlNet's picture too has the first pass's size: its hint follows the latent it guides.
        """
        work = (request.first_width, request.first_height)
        for key, picture in self.by_key.items():
            if isinstance(picture, Image.Image):
                self.by_key[key] = await _as_png(self.memory, picture, work)
        return {key: picture for key, picture in self.by_key.items() if isinstance(picture, bytes)}


class PictureStorage(Protocol):
    """The part of the Horde's client that fetches pictures."""

    async def fetch(self, url: str, max_bytes: int, *, deadline: float, memory: Reservation) -> bytes:
        """A picture of at most `max_bytes`, taken from `memory` as they arrive. Raises JobError."""


async def fetch_pictures(job: Job, model: ServedModel, storage: PictureStorage, memory: Reservation) -> Pictures:
    """Fetch and open everything the pop points to, within the reservation. Raises JobLate only."""
    pop, pictures, fetch = job.pop, Pictures(memory), _Fetcher(job, storage, memory)
    asked_extras = pop.extra_source_images[:MAX_EXTRA_SOURCES]
    (source, mask), extras = await asyncio.gather(
        asyncio.gather(fetch.picture(pop.source_image, "source_image"), fetch.picture(pop.source_mask, "source_mask")),
        asyncio.gather(*(fetch.extra_picture(number, asked.image) for number, asked in enumerate(asked_extras))),
    )
    stand_in = _noise(job) if model.inpainting and source is None else None
    if (painted := source or stand_in) is not None:
        picture = await memory.work(partial(_with_mask, painted, mask, whole=model.inpainting))
        pictures.source = replace(_describe(_key(job, 0), picture), stand_in=stand_in is not None)
        pictures.by_key[pictures.source.key] = picture
    if mask is not None:
        memory.free(_pixel_bytes(mask))
    for extra, asked in zip(extras, asked_extras, strict=True):
        if extra is not None:
            described, data = extra
            pictures.by_key[described.key] = data
            pictures.extras.append(ExtraSource(described, asked.strength))
    return pictures


@dataclass(frozen=True)
class _Fetcher:
    """Fetches one job's pictures. What can't be had is None, and told to the requester."""

    job: Job
    storage: PictureStorage
    memory: Reservation

    async def picture(self, url: str | None, what: str, ref: str | None = None) -> Image.Image | None:
        if not url:
            return None
        value = "download_failed"
        try:
            data = await self.storage.fetch(url, MAX_PICTURE_BYTES, deadline=self.job.deadline, memory=self.memory)
            value = "parse_failed"
            try:
                return await self.memory.open(data)
            finally:
                self.memory.free(len(data))
        except JobLate:
            raise
        except (JobError, InputRefused) as error:
            self._tell(what, value, ref, error)
            return None

    async def extra_picture(self, number: int, url: str) -> tuple[SourceImage, bytes] | None:
        """An extra picture as PNG of its own size."""
        what, ref = "extra_source_images", str(number)
        picture = await self.picture(url, what, ref)
        if picture is None:
            return None
        try:
            return _describe(_key(self.job, number + 1), picture), await _as_png(self.memory, picture, picture.size)
        except InputRefused as error:
            self._tell(what, "parse_failed", ref, error)
            return None

    def _tell(self, what: str, value: str, ref: str | None, error: Exception) -> None:
        logger.bind(action="picture_failed").warning("Job {}: no {}: {}", self.job.name, what, error)
        self.job.metadata.append(GenMetadata.model_validate({"type": what, "value": value, "ref": ref}))


async def _as_png(memory: Reservation, picture: Image.Image, size: tuple[int, int]) -> bytes:
    """The picture encoded at this size; the reservation holds that instead of its pixels."""
    data = await memory.work(_encode, picture, size)
    memory.free(_pixel_bytes(picture))
    await memory.take(len(data))
    return data


def _key(job: Job, number: int) -> str:
    # Of the job's own: another job with the same picture must not lose it when this one is done.
    return f"{job.id}-{number}"


def _describe(key: str, picture: Image.Image) -> SourceImage:
    return SourceImage(key, picture.width, picture.height, has_alpha=picture.mode == "RGBA")


def _pixel_bytes(picture: Image.Image) -> int:
    return picture.width * picture.height * BYTES_PER_PIXEL


def _with_mask(picture: Image.Image, mask: Image.Image | None, *, whole: bool) -> Image.Image:
    """The picture with transparency where it is to be repainted: where the mask is white, or else as it came.

    `whole`: without any mask everything is repainted. Transparency that shows nothing is no mask.
    """
    if mask is not None:
        picture = picture.convert("RGB")
        picture.putalpha(ImageChops.invert(mask.convert("L").resize(picture.size, Image.Resampling.LANCZOS)))
        return picture
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    if whole and picture.mode != "RGBA":
        picture.putalpha(0)
    return picture


def _noise(job: Job) -> Image.Image:
    """Something to paint over for an inpainting model that was given nothing; the same for the same job."""
    side = 64
    noise = random.Random(job.id).randbytes(side * side * 3)
    return Image.frombytes("RGB", (side, side), noise)


def _encode(picture: Image.Image, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    # Each channel by itself: Pillow multiplies colours by their alpha, which leaves black where the mask is.
    bands = [band.resize(size, Image.Resampling.LANCZOS) for band in picture.split()]
    Image.merge(picture.mode, bands).save(out, "PNG", compress_level=PNG_LEVEL)
    return out.getvalue()
