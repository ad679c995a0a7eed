"""What is written, and what never is."""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from worker import logs
from worker.errors import ConfigError

KEY = "abcdefghij0123456789AB"
UPLOAD = "https://r2.example/bucket/a.webp"
SIGNED = f"{UPLOAD}?X-Amz-Credential=me&X-Amz-Signature=5161"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(logs.redactor, "_secrets", {KEY})
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    logs.set_up(tmp_path)
    yield tmp_path / "bridge.log"
    logger.remove()
    logger.configure(patcher=lambda _: None)
    root.handlers[:] = before
    root.setLevel(level)


def fail() -> None:
    try:
        raise ValueError(f"refused: {KEY}")
    except ValueError as error:
        raise OSError(f"no way to {SIGNED}") from error


def test_an_error_is_written_with_its_causes_and_places_and_without_secrets(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        fail()
    except OSError:
        logger.exception("A defect with {}", KEY)
        logging.getLogger("library").exception("its own words")
    terminal = capsys.readouterr().err
    for text in (log.read_text(encoding="utf-8"), terminal):
        assert text.count("in fail") == 4
        assert f"no way to {UPLOAD}?…" in text
        assert f"refused: {logs.STRUCK_OUT}" in text
        assert KEY not in text
        assert "5161" not in text


def test_foreign_text_controls_no_terminal_and_begins_no_line(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b]52;c;Y2F0\x07b\u202ec\r\n2026-01-01 00:00:00.000 | ERROR    | forged"
    logger.info("LoRA {}", hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        logger.exception("With an error")
    logging.getLogger("library").warning(hostile)
    logger.complete()
    for text in (log.read_text(encoding="utf-8"), capsys.readouterr().err):
        assert text.count("forged") == 3
        assert not any(character in text for character in "\x1b\x07\u202e\r")
        assert not any(line.startswith("2026-01-01") for line in text.splitlines())


@pytest.mark.parametrize("piece", ["http://a?", "http://", "https://a?b ", "http://a?toke"])
def test_links_without_number_take_no_time_that_grows_faster_than_they_do(piece: str) -> None:
    assert logs.redactor.clean(piece * 200_000) == piece * 200_000


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (f"({SIGNED}).", f"({UPLOAD}?…)."),
        (f'"{SIGNED}" {SIGNED}', f'"{UPLOAD}?…" {UPLOAD}?…'),
        (f"{UPLOAD}?page=2", f"{UPLOAD}?page=2"),
        (f"{UPLOAD}?a=(1)&token=5161", f"{UPLOAD}?…"),
        (f"https://x.example/a(1).webp?sig={'5' * 9}&SIGNATURE=5161", "https://x.example/a(1).webp?…"),
    ],
)
def test_a_link_loses_its_query_where_that_is_secret(written: str, left: str) -> None:
    assert logs.redactor.clean(written) == left


def test_of_an_endless_message_the_beginning_and_the_end_are_written(log: Path) -> None:
    logger.error("It began. {} It ended.", "\x1b" * 1_000_000)
    logger.complete()
    text = log.read_text(encoding="utf-8")
    assert "It began." in text
    assert text.rstrip().endswith("It ended.")
    assert "characters are left out" in text
    assert len(text) < 5 * (logs.LONGEST_BEGINNING + logs.LONGEST_END)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        logs.set_up(tmp_path / "logs")


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("is_journal", [True, False])
def test_lines_of_a_service_have_the_time_of_systemds_journal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_journal: bool
) -> None:
    with (tmp_path / "terminal").open("w+") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        stat = os.fstat(terminal.fileno())
        # What a program started by a service inherits names the service's stream, not that of the program itself.
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino + (not is_journal)}")
        logs.set_up(None)
        logger.info("A line")
        terminal.seek(0)
        line = terminal.read()
    assert re.fullmatch(r"(\d\d:\d\d:\d\d )?INFO    A line\n", line)
    assert line.startswith("INFO") is is_journal


@pytest.mark.usefixtures("log")
def test_lines_for_a_collector_are_json_with_what_a_program_can_use_and_without_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up(None, console_format=logs.LogFormat.JSON)
    extra = {"action": "job_done", "kudos": 1.5, "ids": ["a", 2], "key": KEY}
    logger.bind(**extra, odd=object()).success("Job done\nwith {} \x1b[31m", KEY)
    try:
        fail()
    except OSError:
        logger.exception("It failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["level"] == "SUCCESS"
    assert (first["action"], first["kudos"], first["ids"]) == ("job_done", 1.5, ["a", 2])
    assert "T" in first["time"]
    assert KEY not in json.dumps([first, second])
    assert "\x1b" not in first["message"]
    assert "ValueError" in second["message"]


def test_warnings_and_errors_stand_in_a_file_of_their_own_as_well(tmp_path: Path) -> None:
    logs.set_up(tmp_path, console_level="CRITICAL")
    logger.info("all is well")
    logger.warning("not quite")
    logger.error("not at all")
    logger.complete()
    trace = (tmp_path / "trace.log").read_text(encoding="utf-8")
    assert "not quite" in trace
    assert "not at all" in trace
    assert "all is well" not in trace
    assert "all is well" in (tmp_path / "bridge.log").read_text(encoding="utf-8")
