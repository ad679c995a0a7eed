"""What the worker says in its log, line by line; families that a test makes known; no deadline for properties."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import pytest
from loguru import logger

from worker.workflows import families, types
from worker.workflows.families import BASELINES, TRAITS

# A loaded machine is slow, and slow is no defect here.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


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


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What a test makes known is forgotten after it."""
    known: tuple[dict[Any, Any], ...] = (types._FAMILIES, TRAITS, BASELINES, families._READ)
    before = [dict(each) for each in known]
    yield
    for each, content in zip(known, before, strict=True):
        each.clear()
        each.update(content)
