"""Pictures of one colour are delivered, and told to the owner when they come again and again."""

from typing import Any

import pytest
from loguru import logger

from worker.horde.messages import PopResponse
from worker.images import RawImage, all_flat, is_flat
from worker.jobs.flat_pictures import MOST_IN_A_ROW, MOST_MODELS, FlatPictures
from worker.jobs.job import Job, JobEvent, Stage

BLACK = RawImage(64, 64, "RGB", bytes(64 * 64 * 3))
RED = RawImage(64, 64, "RGBA", b"\xff\x00\x00\xff" * 64 * 64)
DOT = RawImage(64, 64, "RGB", bytes(64 * 64 * 3 - 1) + b"\x01")


@pytest.fixture
def told() -> Any:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["extra"].get("action", "")), level="WARNING")
    yield lines
    logger.remove(sink)


def rendered(model: str, *, flat: bool, stage: Stage = Stage.DELIVERING) -> JobEvent:
    job = Job(PopResponse(id="a", ids=["a"], model=model))
    job.flat = flat
    return JobEvent(job, stage)


def test_a_picture_is_flat_when_every_pixel_is_the_same() -> None:
    assert [is_flat(image) for image in (BLACK, RED, DOT)] == [True, True, False]
    assert all_flat([BLACK, RED])
    assert not all_flat([BLACK, DOT])
    assert not all_flat([])


async def test_the_owner_is_told_after_a_row_of_them_and_not_of_single_ones(told: list[str]) -> None:
    flat = FlatPictures()
    for _ in range(5):
        flat.note(rendered("a", flat=True))
        flat.note(rendered("b", flat=True))
        flat.note(rendered("a", flat=False))
        flat.note(rendered("b", flat=False))
    assert told == []
    for _ in range(2 * MOST_IN_A_ROW):
        flat.note(rendered("a", flat=True))
    assert told == ["flat_pictures"] * 2
    assert flat.many == {"a": 2 * MOST_IN_A_ROW}
    flat.note(rendered("a", flat=False))
    assert not flat.many


async def test_a_job_counts_once_and_only_when_it_is_rendered() -> None:
    flat = FlatPictures()
    for stage in Stage:
        flat.note(rendered("a", flat=True, stage=stage))
    assert flat._rows == {"a": 1}


async def test_memory_is_bounded() -> None:
    flat = FlatPictures()
    for number in range(MOST_MODELS + 10):
        flat.note(rendered(str(number), flat=True))
    assert len(flat._rows) == MOST_MODELS
