"""Lines typed on a terminal: visible ones, and secrets, which are never shown."""

import contextlib
import getpass
import os
import select
import sys
from collections.abc import Iterator
from typing import Final

from worker.setup.dialogue import MOST_TRIES
from worker.setup.questions import read_yes_no

if sys.platform != "win32":
    import termios

#: What is pasted arrives at once; after so many seconds without more of it, the paste is over.
_PASTE_S: Final = 0.15


def is_terminal() -> bool:
    """Whether somebody can be asked: keyboard and screen are a terminal."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except (AttributeError, ValueError):  # no streams at all, as with pythonw, or closed ones
        return False


def ask_line(prompt: str) -> str:
    """A line as it is typed. Raises EOFError, KeyboardInterrupt."""
    _drop_typed_ahead()
    # Not by input(): its prompt goes to standard output, which may be a file or a program's.
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return _read_line()


def agreed(question: str, *, default: bool) -> bool:
    """Whether the answer is yes; Enter is the default. What is neither is asked again, and agrees to nothing.

    Raises EOFError, KeyboardInterrupt.
    """
    for _ in range(MOST_TRIES):
        reply = ask_line(f"{question} [{'Y/n' if default else 'y/N'}]: ")
        if not reply.strip():
            return default
        try:
            return read_yes_no(reply)
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
    return False


def ask_secret(prompt: str) -> str:
    """A line that is not shown. A paste of several lines counts by its first with anything in it."""
    _drop_typed_ahead()
    if sys.platform == "win32":
        return getpass.getpass(prompt, stream=sys.stderr)
    with _hidden():
        # Only now: what is typed or pasted as soon as the question is there must not be shown either.
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = _read_line()
        while not line.strip() and _more_comes():
            line = _read_line()
        while _more_comes():  # the rest of the paste is no answer to the next question
            _read_line()
    sys.stderr.write("\n")
    return line


def _read_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def _drop_typed_ahead() -> None:
    """Forget what was typed before the question was there: it was meant for another one."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - only there

        while msvcrt.kbhit():
            msvcrt.getwch()
        return
    with contextlib.suppress(OSError, termios.error, ValueError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


if sys.platform != "win32":

    @contextlib.contextmanager
    def _hidden() -> Iterator[None]:
        """No echo while the block lasts, however it ends."""
        terminal = sys.stdin.fileno()
        try:
            before = termios.tcgetattr(terminal)
            silent = [*before]
            silent[3] = int(before[3]) & ~termios.ECHO
            termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
        except termios.error:  # a terminal that can't be told to be silent still takes a key
            yield
            return
        try:
            yield
        finally:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(terminal, termios.TCSADRAIN, before)

    def _more_comes() -> bool:
        return bool(select.select([sys.stdin.fileno()], [], [], _PASTE_S)[0])


def width() -> int:
    """Columns to write in; 80 where the terminal does not say."""
    with contextlib.suppress(OSError, ValueError):
        return max(40, min(100, os.get_terminal_size(sys.stderr.fileno()).columns))
    return 80
