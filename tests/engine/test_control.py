"""Control maps and what they do to a picture, on the real engine."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from worker.demo.tiny.recipes import TINY_LORAS
from worker.workflows.graph import Graph
from worker.workflows.materialise import materialise
from worker.workflows.request import LoraFile
from worker.workflows.template_selection import select

from .studio import VISIBLE, difference, pixels, small_second_pass

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

KINDS = ("canny", "scribble", "hed", "fakescribbles", "depth", "normal", "openpose", "mlsd", "seg")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def drawing(width: int = 128, height: int = 64, *, ground: str = "white", ink: Any = "black") -> Image.Image:
    picture = Image.new("RGB", (width, height), ground)
    ImageDraw.Draw(picture).rectangle((width // 4, height // 4, width // 2, height * 3 // 4), fill=ink)
    return picture


def annotation(kind: str, *keys: str) -> tuple[Graph, str]:
    """A graph that annotates pictures in memory, as a batch of all of them."""
    graph: Graph = {}
    source = ["0", 0]
    for number, key in enumerate(keys):
        graph[str(number)] = {"class_type": "HordeImageInput", "inputs": {"key": key}}
        if number:
            graph[f"batch{number}"] = {
                "class_type": "ImageBatch",
                "inputs": {"image1": source, "image2": [str(number), 0]},
            }
            source = [f"batch{number}", 0]
    graph["map"] = {"class_type": "HordeAnnotator", "inputs": {"image": source, "kind": kind}}
    graph["out"] = {"class_type": "HordeImageOutput", "inputs": {"images": ["map", 0]}}
    return graph, "out"


async def annotated(studio, kind: str, *pictures: Image.Image) -> list[np.ndarray]:
    sources = [await studio.hand_in(picture) for picture in pictures]
    return await studio.run(*annotation(kind, *(source.key for source in sources)), expected=len(pictures))


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_makes_a_map_of_a_pictures_size_for_every_picture_of_a_batch(studio, kind):
    drawn, other = await annotated(studio, kind, drawing(ink="red"), drawing(ground="blue", ink="green"))
    assert drawn.shape == other.shape == (64, 128, 3)
    if kind != "openpose":  # nobody is in these pictures
        assert drawn.std() > VISIBLE


@pytest.mark.parametrize("kind", ["depth", "normal", "seg", "mlsd"])
async def test_the_map_follows_the_picture(studio, kind):
    one, other = await annotated(studio, kind, drawing(ink="red"), drawing(ground="blue", ink="green"))
    assert difference(one, other) > 0


@pytest.mark.parametrize("kind", ["canny", "hed", "fakescribbles"])
async def test_edges_are_where_the_drawing_has_them(studio, kind):
    [edges] = await annotated(studio, kind, drawing())
    assert edges[28:36, 30:35].max() == 255  # the left side of the rectangle, at x = 32
    assert edges[20:44, 90:110].max() < 40  # nothing there but paper


async def test_a_scribble_is_white_where_ink_is(studio):
    [strokes] = await annotated(studio, "scribble", drawing())
    assert strokes[32, 48].tolist() == [255, 255, 255]
    assert strokes[32, 100].tolist() == [0, 0, 0]


async def test_a_person_is_found_and_drawn_as_a_pose(studio):
    picture = Image.new("RGB", (192, 128))
    for number, colour in enumerate((RED, GREEN, BLUE)):
        ImageDraw.Draw(picture).rectangle((30 + 50 * number, 40, 50 + 50 * number, 80), fill=colour)
    [pose] = await annotated(studio, "openpose", picture)
    assert pose[40:80, 40:140].max() > 100
    assert pose[100:].max() == 0


async def test_regions_have_colours_of_the_palette(studio):
    [regions] = await annotated(studio, "seg", drawing(ink="red"))
    colours = np.unique(regions.reshape(-1, 3), axis=0)
    # ADE20K's palette is made of 150 colours; no shade lies between two regions.
    assert len(colours) < 150
    assert regions.shape == (64, 128, 3)


@pytest.mark.parametrize(("width", "height"), [(70, 50), (31, 129)])
@pytest.mark.parametrize("kind", ["canny", "hed"])
async def test_odd_sizes_come_back_as_they_were(studio, kind, width, height):
    [edges] = await annotated(studio, kind, drawing(width, height))
    assert edges.shape == (height, width, 3)
    assert edges.max() > 100


SD1, SD2 = "Tiny SD1.5", "Tiny SD2 512"


async def guided(studio, model: str, kind: str, picture: Image.Image | None = None, **payload: object) -> np.ndarray:
    source = await studio.hand_in(picture or drawing(64, 64))
    payload = {"cfg_scale": 3.0, **payload}
    [image] = await studio.render(studio.request(model, control_type=kind, source=source, **payload))
    return pixels(image)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_control_type_steers_sd1(studio, kind):
    """By a map that is given, so that what the annotator finds in a drawing makes no difference."""
    plain = await studio.picture(SD1, cfg_scale=3.0)
    steered = await guided(studio, SD1, kind, image_is_control=True)
    assert difference(plain, steered) > VISIBLE / 4


@pytest.mark.parametrize("kind", ["canny", "depth", "hed", "openpose", "scribble", "fakescribbles"])
async def test_every_control_type_that_sd2_has_steers_it(studio, kind):
    plain = await studio.picture(SD2, cfg_scale=3.0)
    steered = await guided(studio, SD2, kind, image_is_control=True)
    assert difference(plain, steered) > VISIBLE / 4


@pytest.mark.parametrize("kind", ["canny", "hough"])
async def test_the_map_is_made_of_the_picture_and_steers(studio, kind):
    steered = await guided(studio, SD1, kind)
    other = await guided(studio, SD1, kind, Image.new("RGB", (64, 64), "white"))
    given = await guided(studio, SD1, kind, image_is_control=True)
    assert difference(steered, other) > 0
    assert difference(steered, given) > 0


async def test_strength_counts(studio):
    weak, strong = [await guided(studio, SD1, "canny", control_strength=strength) for strength in (0.3, 1.0)]
    plain = await studio.picture(SD1, cfg_scale=3.0)
    assert 0 < difference(plain, weak) < difference(plain, strong)


async def test_a_lora_and_the_clip_skip_count_beside_a_control_net(studio):
    lora = LoraFile(next(each.file.file_name for each in TINY_LORAS if "sd15" in each.name), 1.0, 1.0)
    plain = await guided(studio, SD1, "canny")
    assert difference(plain, await guided(studio, SD1, "canny", clip_skip=2)) > 0
    assert difference(plain, await guided(studio, SD1, "canny", loras=(lora,))) > VISIBLE / 4
    # Neither leaves anything behind, in the network or in the model that it is a difference to.
    assert difference(plain, await guided(studio, SD1, "canny")) == 0


async def test_the_second_pass_of_a_hires_fix_comes_without_control(studio):
    size = {"hires_fix": True, "width": 576, "height": 576, "ddim_steps": 1, "hires_fix_denoising_strength": 0.4}
    source = await studio.hand_in(drawing(64, 64))
    request = small_second_pass(studio.request(SD1, control_type="canny", source=source, cfg_scale=3.0, **size))
    made = materialise(select(studio.library, request), request)
    [first_only] = await studio.run(made.graph, *made.outputs)
    made.graph["hires-1-sampler"]["inputs"] |= {"positive": ["control-1-guide", 0], "negative": ["control-1-guide", 1]}
    [both] = await studio.run(made.graph, *made.outputs)
    assert first_only.shape == (192, 128, 3)
    assert difference(first_only, both) > VISIBLE / 4


@pytest.mark.parametrize("model", [SD1, "Tiny SDXL", "Tiny Flux Schnell"])
async def test_the_control_map_is_returned_once_for_each_image(studio, model):
    source = await studio.hand_in(drawing(64, 64))
    request = studio.request(model, control_type="scribble", return_control_map=True, source=source, n_iter=2)
    first, second = [pixels(image) for image in await studio.render(request)]
    assert first.shape == (64, 64, 3)
    assert first[32, 24].tolist() == [255, 255, 255]
    assert first[32, 60].tolist() == [0, 0, 0]
    assert difference(first, second) == 0
