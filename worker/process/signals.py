"""Signals of the system: stop, read the settings again, console closed."""

import asyncio
import ctypes
import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: Windows' console events that end the process as soon as their handler returns, or five seconds later.
CTRL_CLOSE, CTRL_LOGOFF, CTRL_SHUTDOWN = 2, 5, 6
#: Seconds that such an event is held up so that the worker can end cleanly.
CLOSE_WAIT_S = 4.5


@contextmanager
def signals(*, stop: Callable[[], None], close: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Calls these on the running event loop while the block lasts.

    `stop`: SIGINT, SIGTERM, Ctrl+C, Ctrl+Break, a lost terminal. `close`: Windows closes the console, and the process
    with it in a few seconds. `reload`: SIGHUP, unless it comes from a terminal that went away.
    """
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":  # asyncio has no signal handlers there; the interpreter has
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)}
        for number in before:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
        with console_close(lambda: loop.call_soon_threadsafe(close), ctypes.windll.kernel32):
            yield
        for number, handler in before.items():
            signal.signal(number, handler)
        return
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: stop() if terminal_lost() else reload())
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


@contextmanager
def console_close(close: Callable[[], Any], kernel32: Any) -> Iterator[None]:
    """Calls `close` in a thread of the system when the console is closed, and delays that until the block has ended."""
    ended = threading.Event()

    def handle(event: int) -> bool:
        if event not in (CTRL_CLOSE, CTRL_LOGOFF, CTRL_SHUTDOWN):
            return False
        close()
        ended.wait(CLOSE_WAIT_S)
        return True

    # Referenced here, since the system keeps only its address.
    handler = getattr(ctypes, "WINFUNCTYPE", ctypes.CFUNCTYPE)(ctypes.c_int, ctypes.c_uint)(handle)
    kernel32.SetConsoleCtrlHandler(handler, 1)
    try:
        yield
    finally:
        ended.set()
        kernel32.SetConsoleCtrlHandler(handler, 0)


def name_of_signal(code: int) -> str | None:
    """The signal that ended a process with this exit code, such as SIGKILL; None where none with a name did."""
    try:
        return signal.Signals(-code).name if code < 0 else None
    except ValueError:
        return None


def terminal_lost() -> bool:
    """Whether standard error is a terminal that was closed."""
    if sys.platform == "win32":
        return False
    import termios  # noqa: PLC0415 - not on Windows

    try:
        termios.tcgetattr(2)
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)
    return False
