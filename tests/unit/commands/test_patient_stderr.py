"""A terminal that takes nothing for a while."""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from worker.commands.patient_stderr import MOST_PIECES, patient_stderr

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")


@contextmanager
def piped_stderr() -> Iterator[io.FileIO]:
    """Standard error is a pipe in the block; its other end."""
    reading, writing = os.pipe()
    before = sys.stderr
    with io.FileIO(reading, "rb") as reader, os.fdopen(writing, "w", encoding="ascii", errors="replace") as stream:
        sys.stderr = stream
        try:
            yield reader
        finally:
            sys.stderr = before


def test_all_that_is_written_arrives_in_order() -> None:
    with piped_stderr() as reader:
        with patient_stderr():
            for number in range(100):
                sys.stderr.write(f"line {number} é\n")
        assert reader.read(100_000).decode() == "".join(f"line {number} ?\n" for number in range(100))


def test_who_writes_waits_for_no_terminal_that_is_stopped() -> None:
    with piped_stderr() as reader:
        began = time.monotonic()
        with patient_stderr(last_words_s=0.1):
            for _ in range(MOST_PIECES * 2):
                sys.stderr.write("x" * 1000 + "\n")
        assert time.monotonic() - began < 10.0
        text = b""
        while b"left out" not in text:
            text += reader.read(100_000)
    assert text.endswith(b" lines are left out: nothing took them)\n")
    assert text.count(b"\n") < MOST_PIECES + 200


def test_a_reader_that_has_gone_is_nobodys_trouble() -> None:
    with piped_stderr() as reader:
        reader.close()
        with patient_stderr():
            sys.stderr.write("one\n")
            sys.stderr.flush()
