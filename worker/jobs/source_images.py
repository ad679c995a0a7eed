"""A job's source pictures: fetched, opened, with the mask in the alpha channel, stretched to the size of the work.

What can't be had or opened is left out and told to the requester in the metadata, as the Horde's other workers do.
Pictures are held in memory only.
"""

import asyncio
import io
import random
from dataclasses import dataclass, field, replace

from loguru import logger
from PIL import Image, ImageChops

from worker.errors import JobError, JobLate
from worker.horde.client import HordeClient
from worker.horde.messages import GenMetadata
from worker.jobs.job import Job
from worker.untrusted.pictures import open_picture
from worker.workflows.payload import MAX_EXTRA_SOURCES
from worker.workflows.request import ExtraSource, RenderRequest, ServedModel, SourceImage

#: The server takes pictures of at most 3072 x 3072; as a badly compressed PNG with alpha that is 38 MB.
MAX_PICTURE_BYTES = 48 * 1024 * 1024
#: The picture is read once, on this machine: time counts, size does not.
PNG_LEVEL = 1


@dataclass
class Pictures:
    """What a job brought. `by_key` holds what the graph will ask the engine for."""

    source: SourceImage | None = None
    extras: tuple[ExtraSource, ...] = ()
    by_key: dict[str, Image.Image] = field(default_factory=dict)

    async def encoded(self, request: RenderRequest) -> dict[str, bytes]:
        """Every picture ready for the engine: the source at the size the request works at, the extras as they are.

        A ControlNet's picture too has the first pass's size: its hint follows the latent it guides.
        """
        work = (request.first_width, request.first_height)
        source = self.source.key if self.source else None
        return {
            key: await asyncio.to_thread(_encode, picture, work if key == source else picture.size)
            for key, picture in self.by_key.items()
        }


async def fetch_pictures(job: Job, model: ServedModel, horde: HordeClient) -> Pictures:
    """Fetch and open everything the pop points to. Raises JobLate only."""
    pop, pictures = job.pop, Pictures()
    asked_extras = pop.extra_source_images[:MAX_EXTRA_SOURCES]
    source, mask, *extras = await asyncio.gather(
        _fetch(job, horde, pop.source_image, "source_image"),
        _fetch(job, horde, pop.source_mask, "source_mask"),
        *(
            _fetch(job, horde, extra.image, "extra_source_images", str(number))
            for number, extra in enumerate(asked_extras)
        ),
    )
    stand_in = _noise(job) if model.inpainting and source is None else None
    if (painted := source or stand_in) is not None:
        picture = await asyncio.to_thread(_with_mask, painted, mask, whole=model.inpainting)
        pictures.source = replace(_keep(pictures, job, 0, picture), stand_in=stand_in is not None)
    pictures.extras = tuple(
        ExtraSource(_keep(pictures, job, number, picture), asked.strength)
        for number, (picture, asked) in enumerate(zip(extras, asked_extras, strict=True), start=1)
        if picture is not None
    )
    return pictures


def _keep(pictures: Pictures, job: Job, number: int, picture: Image.Image) -> SourceImage:
    # A key of the job's own: another job with the same picture must not lose it when this one is done.
    key = f"{job.id}-{number}"
    pictures.by_key[key] = picture
    return SourceImage(key, picture.width, picture.height, has_alpha=picture.mode == "RGBA")


async def _fetch(
    job: Job, horde: HordeClient, url: str | None, what: str, ref: str | None = None
) -> Image.Image | None:
    if not url:
        return None
    value = "download_failed"
    try:
        data = await horde.fetch(url, MAX_PICTURE_BYTES, deadline=job.deadline)
        value = "parse_failed"
        return await asyncio.to_thread(open_picture, data)
    except JobLate:
        raise
    except (JobError, ValueError) as error:
        logger.bind(action="picture_failed").warning("Job {}: no {}: {}", job.name, what, error)
        job.metadata.append(GenMetadata.model_validate({"type": what, "value": value, "ref": ref}))
        return None


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
