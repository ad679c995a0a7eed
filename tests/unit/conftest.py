"""What the worker says in its log, line by line."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from loguru import logger


@contextmanager
def heard(level: str) -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level=level)
    yield lines
    logger.remove(sink)


@pytest.fixture
def said() -> Iterator[list[str]]:
    with heard("INFO") as lines:
        yield lines


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    with heard("WARNING") as lines:
        yield lines
