"""Finished pictures worked on by networks on the real engine, tiny ones that do what can be seen."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from worker.errors import ModelBroken
from worker.workflows import auxiliary_files as auxiliary
from worker.workflows.graph import Graph, Link
from worker.workflows.library import Library
from worker.workflows.manifest import TemplateManifest
from worker.workflows.materialise import materialise
from worker.workflows.payload import read_request
from worker.workflows.request import PostProcessorModel, ServedModel, SourceImage
from worker.workflows.template_selection import Selection
from worker.workflows.templates import Template
from worker.workflows.types import Dialect, Family

from .studio import VISIBLE, difference, pixels

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

#: What the server may ask for, and how often as large its pictures are.
UPSCALERS = [(name, 2 if "x2" in name or "2x" in name else 4) for name in auxiliary.UPSCALERS]


def shrunk(picture: np.ndarray, factor: int) -> np.ndarray:
    height, width, channels = picture.shape
    return picture.reshape(height // factor, factor, width // factor, factor, channels).mean(axis=(1, 3))


@pytest.mark.parametrize(("name", "scale"), UPSCALERS)
async def test_an_upscaler_enlarges_the_picture_and_leaves_it_what_it_was(studio, name, scale):
    plain = await studio.picture("Tiny SD1.5")
    large = await studio.picture("Tiny SD1.5", post_processing=[name])
    assert large.shape == (64 * scale, 64 * scale, 3)
    # The tiny networks smooth and keep the colours, but for the rim, where nothing is beyond the picture.
    inner = (slice(8, -8), slice(8, -8))
    again, before = shrunk(large, scale)[inner], plain[inner]
    assert difference(again.mean(axis=(0, 1)), before.mean(axis=(0, 1))) < VISIBLE
    assert difference(again, before) < difference(before, before.mean(axis=(0, 1))) / 2


async def test_every_image_of_a_batch_is_enlarged_and_as_if_it_were_alone(studio):
    request = studio.request("Tiny SD1.5", n_iter=3, post_processing=["RealESRGAN_x2plus"])
    images = [pixels(image) for image in await studio.render(request)]
    alone = await studio.picture("Tiny SD1.5", post_processing=["RealESRGAN_x2plus"])
    assert [image.shape for image in images] == [(128, 128, 3)] * 3
    assert difference(images[0], alone) < VISIBLE
    assert difference(images[0], images[1]) > VISIBLE


async def test_a_stock_engine_enlarges_to_the_same_pixels(studio):
    request = studio.request("Tiny SD1.5", n_iter=2, post_processing=["RealESRGAN_x2plus"])
    ours, stock = [await studio.render(request, dialect) for dialect in (Dialect.PACK, Dialect.STOCK)]
    assert [image.pixels for image in ours] == [image.pixels for image in stock]


async def test_an_upscaler_whose_file_is_not_there_fails_with_its_name(studio):
    request = studio.request("Tiny SD1.5", post_processing=["NMKD_Siax"])
    with pytest.raises(ModelBroken, match=r"elsewhere\.pth"):
        await studio.render(replace(request, upscalers=(PostProcessorModel("elsewhere.pth"),)))


#: Where a picture has its face, as large as the tiny detector looks for; and where it has none.
FACE = (slice(208, 432), slice(208, 432))
FAR_FROM_FACE = (slice(0, 64), slice(0, 640))
#: As little redder than grey as will do, so that only the middle of the face is taken for one; and pure red.
SKIN, RED = (120, 70, 70), (255, 0, 0)
#: What the tiny restorers make of a face.
RESTORED = np.array([204, 102, 153])
FACE_FIXERS = ["GFPGAN", "GFPGANv1.3", "RestoreFormer", "CodeFormers"]


def portrait(colour: tuple[int, int, int] = SKIN) -> Image.Image:
    """A square of one colour on a grey ground that is nowhere the same."""
    columns, rows = np.meshgrid(np.arange(640), np.arange(640))
    pixels = np.stack([(columns + rows) // 6] * 3, axis=-1).astype(np.uint8)
    pixels[FACE] = colour
    return Image.fromarray(pixels)


def worked_on(*names: str, source: SourceImage, strength: float = 1.0) -> Graph:
    """A picture that was handed in, through the fragments of these post-processors alone."""
    library = Library.load()
    graph: Graph = {"in": {"class_type": "HordeImageInput", "inputs": {"key": source.key}, "_meta": {"title": "in"}}}
    request = read_request(
        {"post_processing": list(names), "facefixer_strength": strength},
        model=ServedModel("A", Family.STABLE_DIFFUSION_1, {"checkpoint": "a"}),
    )
    wanted = {"face_fix", "upscale", "strip_background", "output"}
    template = Template(
        name="handed in",
        graph=graph,
        bindings=(),
        manifest=TemplateManifest.model_validate(
            {
                "description": "a picture",
                "nodes": {"in": "HordeImageInput"},
                "serves": {"modes": ["txt2img"]},
                "ports": {"image": "in.0"},
                "outputs": ["none"],
            }
        ),
        ports={"image": Link("in", 0)},
        outputs=frozenset(),
        files=frozenset(),
    )
    fragments = tuple(
        each
        for each in library.fragments
        if each.when.value in wanted & _features(names) and each.manifest.dialect in {None, Dialect.PACK}
    )
    return materialise(Selection(template, {Dialect.PACK: fragments}), request).graph


def _features(names: tuple[str, ...]) -> set[str]:
    found = {"output"}
    for name in names:
        found.add(
            "face_fix" if name in FACE_FIXERS else "strip_background" if name == "strip_background" else "upscale"
        )
    return found


# GFPGANv1.3 is GFPGAN with other weights; each face takes the full-sized network half a minute here. RestoreFormer is
# below, at half its strength.
@pytest.mark.parametrize("name", ["GFPGAN", "CodeFormers"])
async def test_a_face_is_restored_where_it_is_and_nothing_else_moves(studio, name):
    before = np.asarray(portrait(), dtype=np.float32)
    source = await studio.hand_in(portrait())
    [after] = await studio.run(worked_on(name, source=source), "output-1")
    assert after.shape == before.shape
    assert np.abs(after[300:340, 300:340] - RESTORED).max() < 4
    assert difference(after[FAR_FROM_FACE], before[FAR_FROM_FACE]) == 0


async def test_a_picture_without_faces_stays_as_it_is(studio):
    before = portrait((90, 90, 90))
    source = await studio.hand_in(before)
    [after] = await studio.run(worked_on("GFPGAN", source=source), "output-1")
    assert difference(after, np.asarray(before, dtype=np.float32)) == 0


async def test_a_face_fixer_at_half_its_strength_goes_half_the_way_before_the_picture_is_enlarged(studio):
    source = await studio.hand_in(portrait())
    graph = worked_on("RealESRGAN_x2plus", "RestoreFormer", source=source, strength=0.5)
    [after] = await studio.run(graph, "output-1")
    assert after.shape == (1280, 1280, 3)
    assert np.abs(after[620:660, 620:660] - (np.array(SKIN) + RESTORED) / 2).max() < 4


def small_portrait() -> Image.Image:
    """Half as large: the time of alpha matting grows faster than the picture."""
    return portrait(RED).resize((320, 320), Image.Resampling.NEAREST)


async def test_the_background_of_a_picture_becomes_transparent_and_its_subject_stays(studio):
    source = await studio.hand_in(small_portrait())
    [after] = await studio.run(worked_on("strip_background", source=source), "output-1")
    assert after.shape == (320, 320, 4)
    assert after[150:170, 150:170, 3].min() > 250
    assert after[:32, :, 3].max() < 5
    assert np.abs(after[150:170, 150:170, :3] - RED).max() < 4


async def test_an_enlarged_picture_is_cut_out_in_full_size(studio):
    source = await studio.hand_in(small_portrait())
    graph = worked_on("RealESRGAN_x2plus", "strip_background", source=source)
    [after] = await studio.run(graph, "output-1")
    assert after.shape == (640, 640, 4)
    assert after[310:330, 310:330, 3].min() > 250
    assert after[:64, :, 3].max() < 5


async def test_a_job_with_every_step_gives_a_large_picture_with_transparency(studio):
    # With this seed one of the two pictures has what the tiny detector takes for a face; each takes a processor 12 s.
    request = studio.request(
        "Tiny SD1.5", n_iter=2, seed="5", post_processing=["strip_background", "RealESRGAN_x2plus", "RestoreFormer"]
    )
    images = [pixels(image) for image in await studio.render(request)]
    assert [image.shape for image in images] == [(128, 128, 4)] * 2
