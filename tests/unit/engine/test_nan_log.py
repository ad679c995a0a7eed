"""NaN on a stock engine: its log's warning and a picture of one colour."""

from pathlib import Path

import pytest

from worker.engine.nan_log import NanLog
from worker.errors import ImageNotFinite
from worker.images import RawImage

BLACK = RawImage(8, 8, "RGB", bytes(8 * 8 * 3))
PICTURE = RawImage(8, 8, "RGB", bytes(range(192)))
WARNING = "nodes.py:1635: RuntimeWarning: invalid value encountered in cast\n  img = fromarray(clip(i, 0, 255))\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "engine.log"
    file.write_text("Starting server\n", encoding="utf-8")
    return file


def say(log: Path, words: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(words)


def say_anew(log: Path, words: str) -> None:
    log.unlink()
    say(log, words)


async def test_black_pictures_with_the_warning_are_nan(log: Path) -> None:
    looking = NanLog(log)
    say(log, WARNING)
    with pytest.raises(ImageNotFinite, match="its log says so"):
        await looking.check([BLACK, BLACK])


async def test_a_warning_of_an_earlier_job_says_nothing(log: Path) -> None:
    say(log, WARNING)
    await NanLog(log).check([BLACK])


@pytest.mark.parametrize(("words", "images"), [("Prompt executed\n", [BLACK]), (WARNING, [PICTURE]), (WARNING, [])])
async def test_black_that_was_asked_for_and_pictures_with_a_warning_of_something_else_pass(
    log: Path, words: str, images: list[RawImage]
) -> None:
    looking = NanLog(log)
    say(log, words)
    await looking.check(images)


async def test_a_log_that_was_set_aside_begins_anew(log: Path) -> None:
    say(log, "Prompt executed\n" * 100)
    looking = NanLog(log)
    say_anew(log, WARNING)
    with pytest.raises(ImageNotFinite):
        await looking.check([BLACK])


async def test_a_log_that_is_gone_says_nothing(tmp_path: Path) -> None:
    await NanLog(tmp_path / "gone.log").check([BLACK])
