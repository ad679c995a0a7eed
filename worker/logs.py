"""Where the worker's own words go: the terminal for people, `logs/bridge.log` for everything.

Engines write beside it to `bridge_1.log`, `bridge_2.log` … Known secrets are struck out of every line, errors' texts
among them, wherever it came from, and presigned URLs lose their query.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

#: Rotation by size, because a file that may grow for a day can fill a disk in an hour.
LOG_LIMIT = "16 MB"
LOG_FILES_KEPT = 4
#: The signature of a presigned URL is as good as a key for half an hour.
QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\")]*(?:Signature|Credential|token)[^\s'\")]*", re.IGNORECASE)
STRUCK_OUT = "(secret)"
STANDARD_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


class Redactor:
    """Strikes known secrets out of log records."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, secrets: Iterable[str]) -> None:
        """Never let these texts be written. The anonymous key and empty texts are none."""
        self._secrets |= {secret for secret in secrets if secret and secret.strip("0")}

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, STRUCK_OUT)
        return QUERY.sub(r"\1?…", text)

    def patch(self, record: "Record") -> None:
        """Clean what is said. An error becomes part of that, since its text can hold as much."""
        message = record["message"]
        if record["exception"] is not None:
            # No values of variables stand in this: those would be keys and prompts.
            message += "\n" + "".join(format_exception(*record["exception"])).rstrip()
            record["exception"] = None
        record["message"] = self.clean(message)


redactor = Redactor()


class _ForwardStandardLogging(logging.Handler):
    """Libraries that use the standard library's logging come out of the same sinks."""

    def emit(self, record: logging.LogRecord) -> None:
        level: str | int = record.levelname if record.levelno in STANDARD_LEVELS else record.levelno
        logger.opt(depth=6, exception=record.exc_info).log(level, record.getMessage())


def level_name(verbose: int, quiet: int) -> str:
    """The terminal's level for counted -v and -q."""
    levels = ("ERROR", "WARNING", "INFO", "DEBUG", "TRACE")
    return levels[max(0, min(len(levels) - 1, 2 + verbose - quiet))]


def _write(message: str) -> None:
    sys.stderr.write(message)


def set_up(folder: Path | None, *, console_level: str = "INFO") -> None:
    """Send records to standard error from `console_level` up, and to `folder`/bridge.log from DEBUG up.

    Without a folder nothing is written to disk.
    """
    logger.remove()
    logger.configure(patcher=redactor.patch)
    logger.add(
        # The stream of that moment: a live view puts itself in between. Windows' needs loguru's own help with colours.
        sys.stderr if sys.platform == "win32" else _write,
        level=console_level,
        colorize=sys.stderr.isatty() and "NO_COLOR" not in os.environ,
        format="<green>{time:HH:mm:ss}</green> <level>{level: <7}</level> <level>{message}</level>",
    )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        logger.add(folder / "bridge.log", level="DEBUG", rotation=LOG_LIMIT, retention=LOG_FILES_KEPT, encoding="utf-8")
    logging.basicConfig(handlers=[_ForwardStandardLogging()], level=logging.WARNING, force=True)
