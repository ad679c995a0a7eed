"""Which post-processors run, and in which order; none that makes a picture nobody can deliver."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.workflows.auxiliary_files import FACE_FIXERS, STRIP_BACKGROUND, UPSCALERS
from worker.workflows.payload import read_request
from worker.workflows.post_processing import (
    MAX_JOB_PX,
    MAX_NAMES,
    MAX_PICTURE_PX,
    MAX_SIDE_PX,
    asked,
    fitting,
    in_order,
)
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

MODEL = ServedModel("m", Family.STABLE_DIFFUSION_1, {"checkpoint": "m"})
X4, X4_TOO, X2 = "RealESRGAN_x4plus", "NMKD_Siax", "RealESRGAN_x2plus"


@pytest.mark.parametrize(
    ("names", "width", "height", "batch", "kept"),
    [
        ((X4,), 1024, 1024, 1, (X4,)),
        ((X4,), 2048, 2048, 1, (X4,)),
        ((X4,), 1024, 1024, 20, (X4,)),
        ((X4, X4_TOO), 512, 512, 1, (X4, X4_TOO)),
        # One that does not fit leaves room for a smaller one after it.
        ((X4, X4_TOO, X2), 1024, 1024, 1, (X4, X2)),
        ((X4,), 8192, 64, 1, ()),
        ((X2,), 8192, 64, 1, ()),
        ((X2,), 8128, 64, 1, (X2,)),
        ((X4, X4_TOO), 512, 512, 8, (X4,)),
        ((X4, STRIP_BACKGROUND), 4096, 4096, 1, (STRIP_BACKGROUND,)),
        (("GFPGAN", X4, X4_TOO), 1024, 1024, 1, ("GFPGAN", X4)),
        # Each alone would be done in time, but not both.
        ((X2, X2), 1152, 1152, 4, (X2,)),
        # Slow ones get less to do.
        (("4xNomos2_hq_dat2",), 1024, 1024, 4, ("4xNomos2_hq_dat2",)),
        (("4xNomos2_hq_dat2",), 1024, 1024, 20, ()),
    ],
)
def test_upscalers_are_kept_in_order_as_long_as_the_result_fits(
    names: tuple[str, ...], width: int, height: int, batch: int, kept: tuple[str, ...]
) -> None:
    assert fitting(names, width, height, batch) == kept


SIDES = st.integers(1, 128).map(lambda number: number * 64)


@given(st.lists(st.sampled_from([*UPSCALERS, *FACE_FIXERS, STRIP_BACKGROUND])), SIDES, SIDES, st.integers(1, 64))
def test_no_chain_of_upscalers_makes_more_than_can_be_delivered(
    names: list[str], width: int, height: int, batch: int
) -> None:
    kept = fitting(in_order(list(dict.fromkeys(names))), width, height, batch)
    scale = 1
    for name in kept:
        scale *= UPSCALERS[name].scale if name in UPSCALERS else 1
    assert scale == 1 or max(width, height) * scale <= MAX_SIDE_PX
    assert scale == 1 or width * height * scale**2 <= min(MAX_PICTURE_PX, MAX_JOB_PX / batch)
    assert [name for name in kept if name not in UPSCALERS] == [
        name for name in in_order(list(dict.fromkeys(names))) if name not in UPSCALERS
    ]


def test_the_requester_is_told_which_upscalers_were_left_out() -> None:
    payload = {"seed": "1", "width": 1024, "height": 1024, "post_processing": [X4, "CodeFormers", X4_TOO]}
    request = read_request(payload, model=MODEL)
    assert request.post_processing == ("CodeFormers", X4)
    assert len(request.upscalers) == 1
    [note] = request.notes
    assert X4_TOO in (note.ref or "")


def test_twelve_upscalers_on_a_tiny_picture_end_below_the_limit() -> None:
    request = read_request({"width": 64, "height": 64, "post_processing": list(UPSCALERS)}, model=MODEL)
    assert 64 * 4 ** (len(request.upscalers) - 1) <= MAX_SIDE_PX
    assert len(request.notes) == len(UPSCALERS) - len(request.upscalers)


def test_of_a_list_without_end_only_the_beginning_is_read() -> None:
    names = [f"unknown {number}" for number in range(MAX_NAMES - 1)]
    assert asked({"post_processing": [*names, X2, *map(str, range(10_000)), X4]}) == [*names, X2]
