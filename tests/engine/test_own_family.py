"""A family that is no baseline of the Horde, served by the folder that the docs show and a custom model."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worker.demo.tiny.recipes import TINY_SD35
from worker.models.catalog.custom import read_custom_models
from worker.models.disk.contents import read_contents
from worker.workflows import families, packaged_folder, types
from worker.workflows.audit import audit_library, everything_wrong
from worker.workflows.library import Library
from worker.workflows.node_classes import snapshot, with_any_file
from worker.workflows.payload import read_request
from worker.workflows.request import ServedModel

from .studio import PAYLOAD, VISIBLE, Studio, difference, pixels

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "sd35"


@pytest.fixture
def library() -> Iterator[Library]:
    """What the example makes known is forgotten after the test."""
    known: tuple[dict[Any, Any], ...] = (types._FAMILIES, families.TRAITS, families.BASELINES, families._READ)
    before = [dict(each) for each in known]
    yield Library.load(packaged_folder(), EXAMPLE)
    for each, content in zip(known, before, strict=True):
        each.clear()
        each.update(content)


async def test_the_example_of_the_docs_is_served_and_renders(studio: Studio, tiny, library: Library) -> None:
    assert everything_wrong(library, snapshot()) == []
    assert audit_library(library, with_any_file(studio.client.object_info))["sd35/checkpoint"] == []
    file = tiny.models / TINY_SD35.path
    custom = read_custom_models([{"name": "My SD3.5", "baseline": "stable diffusion 3.5", "filepath": str(file)}])
    assert custom.warnings == ()
    [record] = custom.records.values()
    assert record.family is not None
    contents = read_contents(file)
    assert (contents.family, contents.fits(record.family)) == ("Stable Diffusion 3.5", True)

    own = dataclasses.replace(studio, library=library)
    model = ServedModel("My SD3.5", record.family, {"checkpoint": file.name})

    async def picture(**payload: Any) -> Any:
        [image] = await own.render(read_request({**PAYLOAD, "width": 128, "height": 128, **payload}, model=model))
        return pixels(image)

    plain = await picture()
    assert plain.std() > VISIBLE
    assert difference(plain, await picture()) == 0
    assert difference(plain, await picture(prompt="a blue car on the moon")) > 0
    source = Image.effect_noise((128, 128), 64).convert("RGBA")
    source.paste((0, 0, 0, 0), (64, 0, 128, 128))
    key = await own.hand_in(source)
    asked = {**PAYLOAD, "width": 128, "height": 128}
    request = read_request(asked, model=model, source_processing="inpainting", source=key)
    [painted] = await own.render(request)
    # The left half is kept: it is nearer to the source than the right one.
    wanted = pixels_of(source)
    kept, moved = (difference(pixels(painted)[:, part], wanted[:, part]) for part in (slice(0, 48), slice(80, 128)))
    assert kept < moved


def pixels_of(picture: Image.Image) -> Any:
    return np.asarray(picture.convert("RGB"), dtype=np.float32)
