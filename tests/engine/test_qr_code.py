"""The QR-code workflow on the real engine; OpenCV reads what was drawn."""

import subprocess

import numpy as np
import pytest
from PIL import Image

from worker.demo.tiny.recipes import TINY_LORAS
from worker.workflows.graph import Graph
from worker.workflows.request import LoraFile

from .studio import VISIBLE, difference, pixels

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

#: The outputs of the node.
CODE, DATA, PATTERNS, MASK = range(4)
TOO_LARGE = "This QR Code is too large for this image"
READ = "import cv2, sys; print(cv2.QRCodeDetector().detectAndDecode(cv2.imread(sys.argv[1]))[0])"


async def layer(studio, output: int = CODE, **asked: object) -> np.ndarray:
    inputs = {"text": "https://aihorde.net", "width": 640, "height": 640, "x": 0, "y": 0, "border": 1}
    graph: Graph = {
        "code": {"class_type": "HordeQrCode", "inputs": {**inputs, "drawer": "square", **asked}},
        "mask": {"class_type": "MaskToImage", "inputs": {"mask": ["code", MASK]}},
    }
    source = ["mask", 0] if output == MASK else ["code", output]
    graph["out"] = {"class_type": "HordeImageOutput", "inputs": {"images": source}}
    [picture] = await studio.run(graph, "out")
    return picture


@pytest.fixture
def read(tiny, tmp_path):
    """What a phone would see, by the OpenCV that the engine's environment has."""

    def decode(picture: np.ndarray) -> str:
        file = tmp_path / "code.png"
        Image.fromarray(picture.astype(np.uint8)).save(file)
        ran = subprocess.run([tiny.python, "-c", READ, file], capture_output=True, text=True, check=True, timeout=120)
        return ran.stdout.strip()

    return decode


@pytest.mark.parametrize("drawer", ["square", "gapped square", "circle", "rounded", "vertical bars", "horizontal bars"])
async def test_the_code_can_be_read_whatever_its_modules_look_like(studio, read, drawer):
    assert read(await layer(studio, drawer=drawer, border=4)) == "https://aihorde.net"


async def test_a_code_lies_in_the_middle_or_where_it_was_asked(studio, read):
    def extent(picture: np.ndarray) -> tuple[int, int, int, int]:
        rows, columns = np.nonzero(picture[..., 0] != picture[-1, -1, 0])
        return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1

    middle = await layer(studio, width=1024, height=768)
    left, top, right, bottom = extent(middle)
    assert (left % 64, top % 64) == (0, 0)
    assert abs((left + right) / 2 - 512) <= 64
    assert abs((top + bottom) / 2 - 384) <= 64
    asked = await layer(studio, width=1024, height=768, x=96, y=32)
    assert extent(asked)[:2] == (96, 32)
    assert read(asked) == "https://aihorde.net"
    outside = await layer(studio, width=1024, height=768, x=1000, y=700)
    assert extent(outside)[2:] == (1014, 758)
    assert read(outside) == "https://aihorde.net"


@pytest.mark.parametrize(("side", "text"), [(640, "x" * 300), (640, "x" * 5000), (256, "https://aihorde.net")])
async def test_what_does_not_fit_says_so(studio, read, side, text):
    assert read(await layer(studio, text=text, width=side, height=1024)) == TOO_LARGE


async def test_data_and_patterns_are_the_code_in_two(studio):
    code, data, patterns, mask = [await layer(studio, output) for output in (CODE, DATA, PATTERNS, MASK)]
    inside = code != code[-1, -1]
    masked = mask > 0
    assert (code[masked] == patterns[masked]).all()
    assert (data[masked] == 255).all()
    assert (code[~masked & inside] == data[~masked & inside]).all()
    assert (patterns[~masked] == 255).all()


@pytest.mark.parametrize("model", ["Tiny SD1.5", "Tiny SDXL"])
async def test_the_workflow_renders_and_every_wish_counts(studio, model):
    # Small, for the sake of this machine: the code itself says then that it is too large.
    job = {"workflow": "qr_code", "width": 64, "height": 64, "ddim_steps": 2, "cfg_scale": 2.0}

    async def picture(**changed: object) -> np.ndarray:
        return await studio.picture(model, **{**job, **changed})

    def texts(**asked: str) -> list[dict[str, str]]:
        return [{"reference": reference, "text": text} for reference, text in asked.items()]

    plain = await picture()
    assert plain.shape == (64, 64, 3)
    assert difference(plain, await picture(extra_texts=texts(module_drawer="circle"))) > 0
    assert difference(plain, await picture(extra_texts=texts(function_layer_prompt="a green bus"))) > 0
    assert difference(plain, await picture(control_strength=0.2)) > 0
    assert difference(plain, await picture(clip_skip=2)) > 0
    assert difference(plain, await picture(seed="43")) > VISIBLE
    family = "sd15" if "1.5" in model else "sdxl"
    lora = LoraFile(next(each.file.file_name for each in TINY_LORAS if family in each.name), 1.0, 1.0)
    assert difference(plain, await picture(loras=(lora,))) > 0


async def test_a_batch_is_delivered_whole(studio):
    request = studio.request("Tiny SD1.5", workflow="qr_code", n_iter=2)
    one, other = [pixels(image) for image in await studio.render(request)]
    assert difference(one, other) > 0
