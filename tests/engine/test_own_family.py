"""A family that is no baseline of the Horde, served by the folder that the docs show and a custom model."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worker.demo.tiny.recipes import TINY_MODELS, TINY_SD35
from worker.models.catalog.custom import read_custom_models
from worker.models.disk.contents import read_contents
from worker.workflows import families, packaged_folder, types
from worker.workflows.audit import audit_library, everything_wrong
from worker.workflows.library import Library
from worker.workflows.node_classes import snapshot, with_any_file
from worker.workflows.payload import read_request
from worker.workflows.request import ServedModel, SourceImage
from worker.workflows.template_selection import select

from .studio import PAYLOAD, VISIBLE, Studio, difference, pixels

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
#: As the page tells an owner to write under approved_node_classes.
APPROVED = {"sd35": (), "kontext": ("FluxGuidance", "ReferenceLatent")}


@pytest.fixture
def library(example: str) -> Iterator[Library]:
    """What the example makes known is forgotten after the test."""
    known: tuple[dict[Any, Any], ...] = (types._FAMILIES, families.TRAITS, families.BASELINES, families._READ)
    before = [dict(each) for each in known]
    yield Library.load(packaged_folder(), EXAMPLES / example, approved_classes=APPROVED[example])
    for each, content in zip(known, before, strict=True):
        each.clear()
        each.update(content)


@pytest.mark.parametrize("example", ["sd35"])
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


@pytest.mark.parametrize("example", ["kontext"])
async def test_the_example_that_changes_a_picture_looks_at_it_and_is_flux_for_everything_else(
    studio: Studio, tiny, library: Library
) -> None:
    assert everything_wrong(library, snapshot()) == []
    assert audit_library(library, with_any_file(studio.client.object_info))["kontext/edit"] == []
    split = next(each for each in TINY_MODELS if each.name == "Tiny Flux Split")
    purposes = ("unet", "text_encoder", "text_encoder_2", "vae")
    paths = {purpose: str(tiny.models / file.path) for purpose, file in zip(purposes, split.files, strict=True)}
    custom = read_custom_models([{"name": "My Kontext", "baseline": "flux.1 kontext", "files": paths}])
    assert custom.warnings == ()
    [record] = custom.records.values()
    assert record.family is not None
    own = dataclasses.replace(studio, library=library)
    model = ServedModel("My Kontext", record.family, {key: Path(path).name for key, path in paths.items()})
    sources = [await own.hand_in(Image.new("RGB", (96, 64), colour)) for colour in ("red", "navy")]
    asked = {**PAYLOAD, "cfg_scale": 1.0, "width": 64, "height": 64}

    async def pictures(source: SourceImage | None = None, **payload: Any) -> list[np.ndarray]:
        request = read_request(
            {**asked, **payload}, model=model, source=source, source_processing="img2img" if source else "txt2img"
        )
        chosen = select(library, request).template.name
        assert chosen == ("kontext/edit" if source else "flux/split")
        return [pixels(image) for image in await own.render(request)]

    [plain] = await pictures()
    [changed] = await pictures(sources[0])
    assert changed.shape == (64, 64, 3)
    assert changed.std() > VISIBLE
    assert difference(plain, changed) > 0
    assert difference(changed, (await pictures(sources[0]))[0]) == 0
    assert difference(changed, (await pictures(sources[1]))[0]) > 0
    assert difference(changed, (await pictures(sources[0], prompt="a blue car on the moon"))[0]) > 0
    # A picture that is only looked at is no beginning that less denoising would keep.
    assert difference(changed, (await pictures(sources[0], denoising_strength=0.2))[0]) == 0
    first, second = await pictures(sources[0], n_iter=2)
    assert difference(first, second) > 0


def pixels_of(picture: Image.Image) -> Any:
    return np.asarray(picture.convert("RGB"), dtype=np.float32)
