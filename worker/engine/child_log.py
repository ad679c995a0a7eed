"""The logs of a child process: what it prints, and in a file of its own, where owners of reGen look for them
(trace_1.log …), warnings and errors.

Both are begun anew where they were moved or deleted, as programs that rotate logs expect it: a child writes to the file
that it was started with, which goes on under its new name, or under none. Standard library only, and nothing of the
worker: it runs in the engine's environment, before anything of ComfyUI does.
"""

import contextlib
import logging
import logging.handlers
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

#: Name the files; set for each child.
VARIABLE = "AIWORKER_LOG"
TRACE_VARIABLE = "AIWORKER_TRACE_LOG"
#: Of a trace file, which is begun anew then; one before it is kept.
TRACE_LIMIT_BYTES = 4 * 1024 * 1024
TRACE_FORMAT = "%(asctime)s | %(levelname)s | %(name)s:%(lineno)d - %(message)s"
#: Seconds between two looks, for which lines may go to the file that was there before.
LOOK_S = 10.0


def log_variables(log: Path) -> dict[str, str]:
    """What tells a child of its log, and of the trace beside it: trace_1.log for bridge_1.log, trace_0.log for the
    safety checker's.
    """
    trace = log.with_name(log.name.replace("bridge", "trace").replace("safety", "0"))
    return {VARIABLE: str(log.absolute()), TRACE_VARIABLE: str(trace.absolute())}


def stay_with_log(*descriptors: int, look_s: float = LOOK_S) -> None:
    """Have these descriptors write to the file that the environment names, whatever others do with it meanwhile."""
    name = os.environ.get(VARIABLE)
    # Windows neither moves nor deletes a file that is open.
    if not name or sys.platform == "win32":
        return

    def watch() -> None:
        while True:
            time.sleep(look_s)
            # What can't be written is no log: a full disk ends no engine.
            with contextlib.suppress(OSError):
                _begin_anew_if_gone(Path(name), descriptors)

    threading.Thread(target=watch, name="log", daemon=True).start()


def _is_in_place(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _begin_anew_if_gone(file: Path, descriptors: tuple[int, ...]) -> None:
    if all(_is_in_place(file, each) for each in descriptors):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as begun:
        for each in descriptors:
            os.dup2(begun.fileno(), each)


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


def keep_trace() -> None:
    """Write warnings, errors and what ends a thread or the process into the file that the environment names."""
    name = os.environ.get(TRACE_VARIABLE)
    if not name:
        return
    try:
        handler = _NeverFails(name, maxBytes=TRACE_LIMIT_BYTES, backupCount=1, encoding="utf-8", delay=True)
    except OSError:
        return
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter(TRACE_FORMAT))
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
