"""Control maps and what they do to a picture, on the real engine."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from worker.workflows.graph import Graph

from .studio import VISIBLE, difference

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

KINDS = ("canny", "scribble", "hed", "fakescribbles", "depth", "normal", "openpose", "mlsd", "seg")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def drawing(width: int = 128, height: int = 64, *, ground: str = "white", ink: object = "black") -> Image.Image:
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
    sources = [await studio.hand_in(f"{kind}-{number}", picture) for number, picture in enumerate(pictures)]
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
    assert edges[:, 100:].max() < 40  # nothing there but paper


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
