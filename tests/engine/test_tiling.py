"""Pictures that fit to themselves, and models that are as before afterwards, on the real engine."""

import numpy as np
import pytest

from worker.demo.tiny.recipes import TINY_LORAS
from worker.workflows.request import LoraFile

from .studio import VISIBLE, difference

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

LORA = LoraFile(TINY_LORAS[0].file.file_name, 1.0, 1.0)


def seam(picture: np.ndarray) -> float:
    """How much larger the step over the edges is than from one pixel to the next, on average of both directions."""
    inside = np.abs(np.diff(picture, axis=0)).mean() + np.abs(np.diff(picture, axis=1)).mean()
    across = np.abs(picture[0] - picture[-1]).mean() + np.abs(picture[:, 0] - picture[:, -1]).mean()
    return float(across / inside)


@pytest.mark.parametrize("model", ["Tiny SD1.5", "Tiny SD2 512", "Tiny SDXL"])
async def test_a_tiling_picture_goes_on_at_its_far_edge(studio, model):
    plain = await studio.picture(model)
    tiling = await studio.picture(model, tiling=True)
    assert difference(plain, tiling) > VISIBLE
    # Noise in the latent makes steps of its own at every eighth pixel, and an edge is one of these.
    assert seam(tiling) < 2 < seam(plain) / 2


@pytest.mark.parametrize("model", ["Tiny SD1.5", "Tiny SD2 512"])
async def test_the_job_after_a_tiling_one_gets_the_pixels_it_always_got(studio, model):
    before = await studio.picture(model, seed="7")
    tiling = await studio.picture(model, seed="7", tiling=True)
    # Another seed in between, so that the third is no answer from the engine's cache.
    await studio.picture(model, seed="8")
    after = await studio.picture(model, seed="7")
    again = await studio.picture(model, seed="7", tiling=True)
    assert difference(before, after) == 0
    assert difference(tiling, again) == 0


async def test_a_lora_counts_in_a_tiling_picture_too(studio):
    plain = await studio.picture("Tiny SD1.5", tiling=True)
    changed = await studio.picture("Tiny SD1.5", tiling=True, loras=(LORA,))
    assert difference(plain, changed) > VISIBLE / 4
