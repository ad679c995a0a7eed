"""Families that the pinned ComfyUI does not have: rendered where the engine has them, refused with a reason elsewhere.

`./test.sh --comfyui PATH` runs this on another ComfyUI.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worker.demo.tinies import records
from worker.demo.tiny.recipes import NEWER_TINY_LORAS, NEWER_TINY_MODELS
from worker.errors import JobNotServable
from worker.models.disk.store import Store
from worker.models.installed import InstalledModels
from worker.workflows.audit import audit_library, suited
from worker.workflows.node_classes import with_any_file
from worker.workflows.payload import read_request
from worker.workflows.request import LoraFile, ServedModel
from worker.workflows.template_selection import select
from worker.workflows.types import Family

from .studio import VISIBLE, Studio, difference, pixels

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

LORA_OF = {addition.baseline: addition.file.file_name for addition in NEWER_TINY_LORAS}
ASKED: dict[str, Any] = {"width": 128, "height": 128, "ddim_steps": 3, "cfg_scale": 3.0}


@pytest.fixture
def able(studio: Studio, tiny) -> Studio:
    """The studio with the newer families' models, and a library that knows what this engine can't run."""
    library = suited(studio.library, with_any_file(studio.client.object_info), studio.client.version)
    return dataclasses.replace(
        studio, library=library, catalog=InstalledModels(Store(tiny.models), records(NEWER_TINY_MODELS))
    )


@pytest.mark.parametrize("model", NEWER_TINY_MODELS, ids=lambda model: model.name)
async def test_a_newer_family_renders_where_the_engine_has_it_and_is_refused_where_not(able: Studio, model) -> None:
    family = Family(model.baseline)
    if reason := able.library.unserved.get(family):
        files = {"unet": "u", "text_encoder": "t", "vae": "v"}
        request = read_request({"seed": "1"}, model=ServedModel(model.name, family, files))
        with pytest.raises(JobNotServable) as raised:
            select(able.library, request)
        assert reason in str(raised.value)
        return

    assert not any(audit_library(able.library, with_any_file(able.client.object_info)).values())
    plain = await able.picture(model.name, **ASKED)
    assert np.isfinite(plain).all()
    assert plain.std() > VISIBLE
    assert difference(plain, await able.picture(model.name, **ASKED)) == 0
    other = await able.picture(model.name, **{**ASKED, "prompt": "a blue car on the moon"})
    assert difference(plain, other) > 0
    lora = LoraFile(LORA_OF[model.baseline], 1.0, 1.0)
    [changed] = await able.render(able.request(model.name, loras=(lora,), **ASKED))
    assert difference(plain, pixels(changed)) > VISIBLE
    assert difference(plain, await able.picture(model.name, **ASKED, flow_shift=9.0)) > 0

    # Right of the middle is painted anew, left of it stays; the edge is blurred by the autoencoder.
    source = Image.effect_noise((128, 128), 64).convert("RGBA")
    source.paste((0, 0, 0, 0), (64, 0, 128, 128))
    masked = await able.hand_in(source)
    painted = [
        pixels(image)
        for seed in ("1", "2")
        for image in await able.render(
            able.request(model.name, source=masked, processing="inpainting", **{**ASKED, "seed": seed})
        )
    ]
    kept, moved = (difference(painted[0][:, part], painted[1][:, part]) for part in (slice(0, 48), slice(80, 128)))
    assert moved > VISIBLE
    assert kept < moved / 2
    kept_more = await able.render(
        able.request(model.name, source=masked, processing="img2img", denoising_strength=0.3, **ASKED)
    )
    assert pixels(kept_more[0]).std() > VISIBLE
    first, second = await able.render(able.request(model.name, **ASKED, n_iter=2))
    assert difference(pixels(first), pixels(second)) > VISIBLE
