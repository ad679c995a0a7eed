"""A log file among others who move, empty and delete it, and on a full disk."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from worker import logs
from worker.log_file import LogFile

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows moves no file that is open")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "50% {of} %(them)s"
    logger.remove()


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LogFile, "_write", fail)


def test_a_file_that_was_moved_away_is_begun_anew(folder: Path) -> None:
    logs.set_up(folder, console_level="CRITICAL")
    logger.info("one")
    (folder / "bridge.log").rename(folder / "bridge.log.1")
    logger.info("two")
    assert "two" not in (folder / "bridge.log.1").read_text(encoding="utf-8")
    assert "two" in (folder / "bridge.log").read_text(encoding="utf-8")


def test_a_folder_that_was_deleted_is_made_anew(folder: Path) -> None:
    logs.set_up(folder, console_level="CRITICAL")
    shutil.rmtree(folder)
    logger.info("two")
    assert "two" in (folder / "bridge.log").read_text(encoding="utf-8")


def test_a_file_that_was_emptied_goes_on_at_its_beginning(folder: Path) -> None:
    logs.set_up(folder, console_level="CRITICAL")
    logger.info("one")
    os.truncate(folder / "bridge.log", 0)
    logger.info("two")
    assert (folder / "bridge.log").read_bytes()[:1].isdigit()


@pytest.mark.parametrize("form", list(logs.LogFormat))
def test_a_full_disk_is_told_once_in_a_sentence_until_it_has_room_again(
    folder: Path, form: logs.LogFormat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up(folder, console_level="CRITICAL", console_format=form)
    with monkeypatch.context() as full:
        refuse(full)
        logger.info("one")
        logger.info("two")
    logger.info("three")
    assert "three" in (folder / "bridge.log").read_text(encoding="utf-8")
    with monkeypatch.context() as full:
        refuse(full)
        logger.info("four")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        said = json.loads(line)["message"] if form is logs.LogFormat.JSON else line
        assert f"The log file {folder / 'bridge.log'} cannot be written: No space left on device" in said
        assert said.endswith("Make room on the disk, then try again.")


def test_a_large_file_is_set_aside_and_few_of_those_stay(folder: Path) -> None:
    folder.mkdir()
    owners = folder / "bridge.mine.log"
    owners.touch()
    file = LogFile(folder / "bridge.log", limit_bytes=10, kept=2, tell=lambda *_: None)
    for number in range(6):
        file.write(f"line {number}\n")
    file.stop()
    aside = sorted(folder.glob("bridge.[0-9]*.log"))
    assert [each.read_text(encoding="utf-8") for each in aside] == ["line 3\n", "line 4\n"]
    assert (folder / "bridge.log").read_text(encoding="utf-8") == "line 5\n"
    assert owners.exists()
