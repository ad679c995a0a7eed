"""Jobs captured from a real server, as graphs that the real engine takes: its own validation, files and all."""

import asyncio
import contextlib
import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from worker.demo.tiny.recipes import TINY_LORAS
from worker.engine.client import EngineClient
from worker.jobs.preview import read_pop_file, request_for
from worker.models.catalog.reference import read_folder
from worker.workflows.materialise import Materialised, materialise
from worker.workflows.request import RenderRequest
from worker.workflows.template_selection import select
from worker.workflows.types import Family

from .studio import Studio

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

NAMES = (
    "cascade", "controlnet_canny", "flux", "hires_fix", "img2img", "inpaint_mask", "loras_tis", "post_processing",
    "qr_code", "sdxl", "txt2img", "txt2img_batch_n3",
)  # fmt: skip
TINY = {
    (Family.STABLE_DIFFUSION_1, False): "Tiny SD1.5",
    (Family.STABLE_DIFFUSION_1, True): "Tiny SD1.5 Inpainting",
    (Family.STABLE_DIFFUSION_XL, False): "Tiny SDXL",
    (Family.FLUX_1, False): "Tiny Flux Schnell",
    (Family.STABLE_CASCADE, False): "Tiny Stable Cascade",
}
LORA = TINY_LORAS[0].file.file_name


async def with_what_is_here(studio: Studio, request: RenderRequest) -> RenderRequest:
    """The request with the tiny files in the place of those it names, and a picture in the place of its picture."""
    model = studio.catalog.model(TINY[request.model.family, request.model.inpainting])
    assert model is not None
    source = request.source
    if source:
        picture = Image.new("RGBA" if source.has_alpha else "RGB", (request.first_width, request.first_height))
        source = await studio.hand_in(picture)
    loras = tuple(dataclasses.replace(lora, file=LORA) for lora in request.loras)
    return dataclasses.replace(request, model=model, source=source, loras=loras)


async def begin(client: EngineClient, made: Materialised, count: int) -> None:
    """Hand the graph in, and give it up as soon as the engine begins with it. Raises GraphRejected."""
    begun = asyncio.Event()
    rendering = asyncio.ensure_future(
        client.render(made.graph, made.outputs, expected=count, on_progress=lambda _: begun.set())
    )
    started = asyncio.ensure_future(begun.wait())
    await asyncio.wait((rendering, started), return_when=asyncio.FIRST_COMPLETED)
    if begun.is_set():
        rendering.cancel()
    started.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await rendering


@pytest.mark.parametrize("name", NAMES)
async def test_the_engine_takes_a_captured_job(studio, horde_facts: Path, model_lists: Path, name: str):
    job = read_pop_file(horde_facts / "jobs" / f"{name}.json")
    models = read_folder(model_lists, beta=True).images
    request = await with_what_is_here(studio, request_for(job, models))
    await begin(studio.client, materialise(select(studio.library, request), request), request.batch)
