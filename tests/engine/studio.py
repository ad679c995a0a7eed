"""A running engine with the tiny models, and jobs made the worker's way."""

import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.preloaded import DEVICE
from worker.engine.client import EngineClient
from worker.images import RawImage
from worker.models.installed import InstalledModels
from worker.workflows.graph import Graph
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.payload import read_request
from worker.workflows.request import ExtraSource, LoraFile, RenderRequest, SourceImage
from worker.workflows.template_selection import select
from worker.workflows.types import Dialect

DEVICE_ARGUMENTS: tuple[str, ...] = ("--cpu",) if DEVICE == "cpu" else ()
#: Mean difference of a channel, of 255, that nobody would call equal.
VISIBLE = 1.0
PAYLOAD = {
    "prompt": "a red fox in the snow ### blurry",
    "width": 64,
    "height": 64,
    "ddim_steps": 2,
    "n_iter": 1,
    "seed": "42",
    "sampler_name": "k_euler",
    "cfg_scale": 5.0,
    "karras": True,
    "clip_skip": 1,
}


@dataclasses.dataclass
class Studio:
    client: EngineClient
    catalog: InstalledModels
    library: Library
    log: Path

    def request(
        self,
        model: str,
        *,
        loras: tuple[LoraFile, ...] = (),
        source: SourceImage | None = None,
        processing: str = "txt2img",
        extra_sources: tuple[ExtraSource, ...] = (),
        **payload: Any,
    ) -> RenderRequest:
        served = self.catalog.model(model)
        assert served is not None, f"{model} is not built"
        return read_request(
            {**PAYLOAD, **payload},
            model=served,
            loras=loras,
            source=source,
            source_processing=processing,
            extra_sources=extra_sources,
            listed=self.catalog.listed,
        )

    async def render(self, request: RenderRequest, dialect: Dialect = Dialect.PACK) -> list[RawImage]:
        made = materialise(select(self.library, request), request, dialect=dialect)
        return await self.client.render(made.graph, made.outputs, expected=request.batch)

    async def picture(self, model: str, **payload: Any) -> np.ndarray:
        [image] = await self.render(self.request(model, **payload))
        return pixels(image)

    async def run(self, graph: Graph, output: str, *, expected: int = 1) -> list[np.ndarray]:
        """What a graph of one's own gives."""
        return [pixels(image) for image in await self.client.render(graph, (output,), expected=expected)]

    def complaints(self, *phrases: str) -> list[str]:
        """Lines of the engine's log with one of the phrases."""
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        return [line for line in lines if any(phrase in line for phrase in phrases)]

    async def hand_in(self, picture: Image.Image) -> SourceImage:
        """A picture in the engine's memory; equal pictures have equal keys, as the engine caches by them."""
        out = io.BytesIO()
        picture.save(out, "PNG")
        key = hashlib.sha256(out.getvalue()).hexdigest()
        await self.client.put_input(key, out.getvalue())
        return SourceImage(key, picture.width, picture.height, has_alpha=picture.mode == "RGBA")


def small_second_pass(request: RenderRequest) -> RenderRequest:
    """The same from 64x64 to 128x192, where a step takes a processor no seconds; of 512 pixels and fewer no requester
    could ask a second pass.
    """
    assert request.hires
    return dataclasses.replace(request, first_width=64, first_height=64, width=128, height=192)


def pixels(image: RawImage) -> np.ndarray:
    return np.asarray(image.to_pillow(), dtype=np.float32)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())
