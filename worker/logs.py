"""The sinks of the log: the terminal for people, `logs/bridge.log` for everything, `logs/trace.log` for
warnings and errors.

Engines write beside them to `bridge_1.log` and `trace_1.log`, `bridge_2.log` … In every line, whatever its source and
including the texts of exceptions, known secrets are removed, presigned URLs lose their query, and foreign text is made
visible: it can neither control the terminal nor begin a line of its own.
"""

import errno
import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from loguru import logger

from worker.as_typed import as_typed
from worker.errors import ConfigError
from worker.log_file import LogFile
from worker.untrusted.text import visible_lines

if TYPE_CHECKING:
    from loguru import Message, Record

#: Rotation by size: a file that may grow for a day can fill a disk in an hour.
LOG_LIMIT_BYTES = 16_000_000
LOG_FILES_KEPT = 4
#: Everything, and what is wrong by itself, with the least level of each.
LOG_FILES = {"bridge.log": "DEBUG", "trace.log": "WARNING"}
#: Whole, so that each character is looked at once, whatever a stranger writes after a `?`.
LINK = re.compile(r"https?://[^\s'\"]+", re.IGNORECASE)
#: The signature of a presigned URL is as good as a key for half an hour.
SECRET_QUERY = re.compile("Signature|Credential|token", re.IGNORECASE)
STRUCK_OUT = "(secret)"
#: Characters of a message that are kept of its beginning and of its end, where an exception says what it is. They are
#: looked at one by one on the event loop: 20 ms for all of them.
LONGEST_BEGINNING, LONGEST_END = 24_000, 8_000
#: On the terminal, behind the time.
LINE = "<level>{level: <7}</level> <level>{message}</level>"
STANDARD_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


class Redactor:
    """Makes log records safe: no known secrets, no foreign control characters."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, secrets: Iterable[str]) -> None:
        """Never write these texts. The anonymous key and empty texts are no secrets."""
        self._secrets |= {secret for secret in secrets if secret and secret.strip("0")}

    def clean(self, text: str) -> str:
        """`text` without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, STRUCK_OUT)
        return LINK.sub(_without_secret, text)

    def patch(self, record: "Record") -> None:
        """Clean the message. An exception becomes part of it, since its text can contain as much."""
        message = record["message"]
        if record["exception"] is not None:
            # Without the values of variables, which would be keys and prompts.
            message += "\n" + "".join(format_exception(*record["exception"])).rstrip()
            record["exception"] = None
        # Cleaned as a whole, since half a secret would not be known as one.
        record["message"] = visible_lines(as_typed(_shortened(self.clean(message))))


redactor = Redactor()


def _without_secret(link: re.Match[str]) -> str:
    place, _, query = link[0].partition("?")
    if not SECRET_QUERY.search(query):
        return link[0]
    return f"{place}?…{query[len(query.rstrip(').,')) :]}"


def _shortened(message: str) -> str:
    left_out = len(message) - LONGEST_BEGINNING - LONGEST_END
    if left_out <= 0:
        return message
    return f"{message[:LONGEST_BEGINNING]}\n({left_out} characters are left out)\n{message[-LONGEST_END:]}"


class _ForwardStandardLogging(logging.Handler):
    """Sends the records of libraries that use standard logging to the same sinks."""

    def emit(self, record: logging.LogRecord) -> None:
        level: str | int = record.levelname if record.levelno in STANDARD_LEVELS else record.levelno
        logger.opt(depth=6, exception=record.exc_info).log(level, record.getMessage())


def level_name(verbose: int, quiet: int) -> str:
    """The terminal's level for counted -v and -q."""
    levels = ("ERROR", "WARNING", "INFO", "DEBUG", "TRACE")
    return levels[max(0, min(len(levels) - 1, 2 + verbose - quiet))]


def io_reason(error: OSError) -> str:
    """Why a file or folder cannot be used, in words for an owner."""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "there is a file where a folder is needed"
    return error.strerror or type(error).__name__


def io_remedy(error: OSError) -> str:
    """What an owner can do about it."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "Make room on the disk, then try again."
    if error.errno == errno.EROFS:
        return "It lies on a disk that can only be read."
    return "Check that the path exists and that its permissions are right."


class LogFormat(str, Enum):
    """How lines on the terminal look."""

    #: for people
    TEXT = "text"
    #: one JSON object a line: time, level, message, and what a program can use beside it
    JSON = "json"


def _write(message: str) -> None:
    sys.stderr.write(message)


def _write_json(message: "Message") -> None:
    record = message.record
    content = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"].strip(),
        **{name: _plain(value) for name, value in record["extra"].items()},
    }
    sys.stderr.write(json.dumps(content, ensure_ascii=True) + "\n")


def _tell(file: Path, error: OSError) -> None:
    time = "" if _goes_to_journal() else f"{datetime.now():%H:%M:%S} "  # noqa: DTZ005 - as in the other lines
    _write(f"{time}WARNING {_lost(file, error)}\n")


def _tell_in_json(file: Path, error: OSError) -> None:
    content = {"time": datetime.now().astimezone().isoformat(), "level": "WARNING", "message": _lost(file, error)}
    _write(json.dumps(content) + "\n")


def _lost(file: Path, error: OSError) -> str:
    """Written beside the log, which is at work on a line just now."""
    said = f"The log file {file} cannot be written: {io_reason(error)}; lines are missing there. {io_remedy(error)}"
    return visible_lines(said)


def _plain(value: Any) -> Any:
    """What a record carries, as JSON takes it and without secrets."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return redactor.clean(str(value))


def set_up(folder: Path | None, *, console_level: str = "INFO", console_format: LogFormat = LogFormat.TEXT) -> None:
    """Send records to standard error from `console_level` up, to `folder`/bridge.log from DEBUG up, and to
    trace.log from WARNING up.

    Without a folder nothing is written to disk. Raises ConfigError when the folder cannot be written.
    """
    logger.remove()
    logger.configure(patcher=redactor.patch)
    if console_format is LogFormat.JSON:
        logger.add(_write_json, level=console_level)
    else:
        _add_terminal(console_level)
    logging.basicConfig(handlers=[_ForwardStandardLogging()], level=logging.WARNING, force=True)
    if folder is None:
        return
    tell = _tell_in_json if console_format is LogFormat.JSON else _tell
    try:
        for name, level in LOG_FILES.items():
            logger.add(LogFile(folder / name, limit_bytes=LOG_LIMIT_BYTES, kept=LOG_FILES_KEPT, tell=tell), level=level)
    except OSError as error:
        raise ConfigError(
            f"The log file {folder.absolute() / 'bridge.log'} cannot be written: {io_reason(error)}.",
            remedy="Check the permissions of the folder, or start from a folder of yours; logs go where you start.",
        ) from error


def _goes_to_journal() -> bool:
    """Whether standard error is what systemd has connected to its journal, which has the time of each line itself."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        stat = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # no file
        return False
    return (device, inode) == (str(stat.st_dev), str(stat.st_ino))


def _add_terminal(level: str) -> None:
    logger.add(
        # The stream at that moment: a live view replaces it. Windows needs loguru's own handling of colours.
        sys.stderr if sys.platform == "win32" else _write,
        level=level,
        colorize=sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb",
        format=LINE if _goes_to_journal() else f"<green>{{time:HH:mm:ss}}</green> {LINE}",
    )
