"""What a command prints: text and tables for people, JSON for programs. Foreign text is made visible here."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.as_typed import as_typed
from worker.untrusted.text import visible, visible_lines

#: Columns below which a table is nothing but single characters, and digits of the widest terminal.
LEAST_COLUMNS = 20
MOST_DIGITS = 4
#: The last of the three descriptors that every program expects.
STANDARD_ERROR = 2


def answer(text: str) -> None:
    """Print lines for people to standard output."""
    sys.stdout.write(f"{visible_lines(as_typed(text))}\n")


def answer_json(value: Any) -> None:
    """Print one JSON value to standard output."""
    sys.stdout.write(f"{json.dumps(value, ensure_ascii=False)}\n")


def complain(text: str) -> None:
    """Print the reason of a failure to standard error."""
    sys.stderr.write(f"{visible_lines(f'horde-bridge: {as_typed(text)}')}\n")


def answer_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table. Cells too long for the terminal continue on the next line; none is cut."""
    table = Table(box=None)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console().print(table)


def hold_standard_streams() -> None:
    """Put nothing in the place of standard streams that are closed, as some starters of programs leave them.

    Python has None for them, and the next file that is opened, such as a database, would be what children write to.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process


def accept_any_character() -> None:
    """Replace characters that an output cannot encode, such as those of a pipe in cp1252, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def mend_terminal_size() -> None:
    """Forget a size of the terminal in the environment that shows nothing, as containers set it, or is no number."""
    for name, least in (("COLUMNS", LEAST_COLUMNS), ("LINES", 1)):
        text = os.environ.get(name, "")
        if text and not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS and int(text) >= least):
            del os.environ[name]
