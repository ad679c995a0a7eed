"""Warnings and errors of a child process in a file of their own, where owners of reGen look for them: trace_1.log …

Standard library only, and nothing of the worker: it runs in the engine's environment, before anything of ComfyUI does.
"""

import contextlib
import logging
import logging.handlers
import os
import sys
import threading
from pathlib import Path
from types import TracebackType

#: Names the file; set for each child.
VARIABLE = "AIWORKER_TRACE_LOG"
LIMIT_BYTES = 4 * 1024 * 1024
FORMAT = "%(asctime)s | %(levelname)s | %(name)s:%(lineno)d - %(message)s"


def trace_of(log: Path) -> Path:
    """The trace file beside a child's log: trace_1.log for bridge_1.log, trace_0.log for the safety checker's."""
    return log.with_name(log.name.replace("bridge", "trace").replace("safety", "0")).absolute()


class _NeverFails(logging.handlers.RotatingFileHandler):
    """A log that can't be written is none: a full disk fails no job, and says nothing into the child's output.

    One that was moved or deleted is begun anew.
    """

    def emit(self, record: logging.LogRecord) -> None:
        stream, file = self.stream, Path(self.baseFilename)
        if stream is not None and not _is_in_place(file, stream.fileno()):
            self.stream = None  # the next line opens the file
            with contextlib.suppress(OSError):
                stream.close()
                file.parent.mkdir(parents=True, exist_ok=True)
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the name is logging's
        return


def _is_in_place(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except OSError:
        return False


def keep_trace() -> None:
    """Write warnings, errors and what ends a thread or the process into the file that the environment names."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    try:
        handler = _NeverFails(name, maxBytes=LIMIT_BYTES, backupCount=1, encoding="utf-8", delay=True)
    except OSError:
        return
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.getLogger().addHandler(handler)

    def note(message: str, error: BaseException | None) -> None:
        record = logging.LogRecord("process", logging.CRITICAL, __file__, 0, message, None, None)
        if error is not None:
            record.exc_info = (type(error), error, error.__traceback__)
        handler.handle(record)

    before, before_in_thread = sys.excepthook, threading.excepthook

    def ends_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        note("The process ends by an error.", error)
        before(kind, error, trace)

    def ends_thread(ended: threading.ExceptHookArgs) -> None:
        note("A thread ends by an error.", ended.exc_value)
        before_in_thread(ended)

    sys.excepthook, threading.excepthook = ends_process, ends_thread
