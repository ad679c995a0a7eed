"""A payload's post-processors: the known ones in their order, without upscalers whose result can't be delivered.

In the graph the kinds follow `order` in the manifests of comfy_workflows/fragments (face_fix, upscale,
strip_background).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from worker.workflows import coerce
from worker.workflows.auxiliary_files import FACE_FIXERS, STRIP_BACKGROUND, UPSCALERS

#: The Horde's list is shorter, and none of its names is as long.
MAX_NAMES, MAX_NAME_CHARACTERS = 32, 100
#: WebP holds no longer side.
MAX_SIDE_PX = 16_383
#: Pixels of one finished picture, and of all of a job: as many as 20 pictures of 1024 px, the most in one job, enlarged
#: four times. ComfyUI holds them at 12 bytes each, 0.8 and 4 GB.
MAX_PICTURE_PX, MAX_JOB_PX = 8192**2, 20 * 4096**2
#: Pixels that the upscalers of a job read, times their cost: some 24 s of the 150 s that the Horde gives a small job,
#: on a card that enlarges a megapixel a second with ESRGAN.
MAX_UPSCALED_PX = 24 * 1024**2


def asked(payload: Mapping[str, Any]) -> list[str]:
    """The names that a payload lists, known or not, each once and cut to a length that a message can repeat."""
    names = payload.get("post_processing")
    names = names[:MAX_NAMES] if isinstance(names, list | tuple) else ()
    return list(dict.fromkeys(coerce.text(name)[:MAX_NAME_CHARACTERS] for name in names))


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """The known names: faces are fixed at the size they were painted, the background is cut out last."""
    groups = (FACE_FIXERS, UPSCALERS, {STRIP_BACKGROUND})
    return tuple(name for group in groups for name in names if name in group)


def fitting(
    names: Sequence[str], width: int, height: int, batch: int, *, most_work_px: float = MAX_UPSCALED_PX
) -> tuple[str, ...]:
    """The names without the upscalers that would make pictures too large or take too long, each judged in its turn.

    Width and height in pixels, as the pictures are rendered; `batch`: how many pictures there are; `most_work_px`:
    what there is time for, in pixels that an upscaler of cost 1 reads.
    """
    kept, read = [], 0.0
    for name in names:
        if upscaler := UPSCALERS.get(name):
            enlarged = (width * upscaler.scale, height * upscaler.scale)
            pixels = enlarged[0] * enlarged[1]
            work = read + width * height * batch * upscaler.cost
            too_large = max(enlarged) > MAX_SIDE_PX or pixels > MAX_PICTURE_PX or pixels * batch > MAX_JOB_PX
            if too_large or work > min(most_work_px, MAX_UPSCALED_PX):
                continue
            (width, height), read = enlarged, work
        kept.append(name)
    return tuple(kept)


def works_px(names: Sequence[str], width: int, height: int, batch: int) -> tuple[float, ...]:
    """The work of each upscaler among the names, in order: pixels that it reads, times its cost."""
    works = []
    for name in names:
        if upscaler := UPSCALERS.get(name):
            works.append(width * height * batch * upscaler.cost)
            width, height = width * upscaler.scale, height * upscaler.scale
    return tuple(works)
