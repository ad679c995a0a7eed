"""Pictures of one colour are delivered, and told to the owner when they come again and again."""

from typing import Any

import pytest
from loguru import logger

from worker.images import RawImage
from worker.jobs.flat_pictures import MOST_IN_A_ROW, MOST_MODELS, FlatPictures, all_flat, is_flat

BLACK = RawImage(64, 64, "RGB", bytes(64 * 64 * 3))
RED = RawImage(64, 64, "RGBA", b"\xff\x00\x00\xff" * 64 * 64)
DOT = RawImage(64, 64, "RGB", bytes(64 * 64 * 3 - 1) + b"\x01")


@pytest.fixture
def told() -> Any:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["extra"].get("action", "")), level="WARNING")
    yield lines
    logger.remove(sink)


def test_a_picture_is_flat_when_every_pixel_is_the_same() -> None:
    assert [is_flat(image) for image in (BLACK, RED, DOT)] == [True, True, False]
    assert all_flat([BLACK, RED])
    assert not all_flat([BLACK, DOT])
    assert not all_flat([])


def test_the_owner_is_told_after_a_row_of_them_and_not_of_single_ones(told: list[str]) -> None:
    flat = FlatPictures()
    for _ in range(5):
        flat.note("a", flat=True)
        flat.note("b", flat=True)
        flat.note("a", flat=False)
        flat.note("b", flat=False)
    assert told == []
    for _ in range(2 * MOST_IN_A_ROW):
        flat.note("a", flat=True)
    assert told == ["flat_pictures"] * 2


def test_memory_is_bounded() -> None:
    flat = FlatPictures()
    for number in range(MOST_MODELS + 10):
        flat.note(str(number), flat=True)
    assert len(flat._rows) == MOST_MODELS
