"""What the worker says in its log, line by line; families that a test makes known; how long properties are tried;
certificates and our templates, read once.
"""

import os
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from loguru import logger

from worker.workflows import families, library, packaged_folder, types
from worker.workflows.families import BASELINES, TRAITS

# A loaded machine is slow, and slow is no defect here. The same examples each time, so that a run fails for what was
# changed; `--hypothesis-profile exploring` tries others.
hypothesis.settings.register_profile("unhurried", deadline=None, derandomize=True)
hypothesis.settings.load_profile("unhurried")
# For `./test.sh --quick`: a fifth of the examples of a whole run.
hypothesis.settings.register_profile("quick", deadline=None, derandomize=True, max_examples=20)
hypothesis.settings.register_profile("exploring", deadline=None, max_examples=500)


@cache
def _certificates(certificate_file: str | None, folder: str | None, *how: Any) -> ssl.SSLContext:
    return httpx.create_ssl_context(*how)


@pytest.fixture(scope="session", autouse=True)
def certificates_are_read_once() -> Iterator[None]:
    """Hundreds of tests make a client of httpx, and each read all certificates of this world anew."""

    def context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        return _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"), verify, cert, trust_env)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", context)
        yield


@pytest.fixture(scope="session", autouse=True)
def our_templates_are_read_once() -> Iterator[None]:
    """More than a hundred tests load the library, and each read the same fifty of our folder anew."""
    read, ours = library._read, packaged_folder()
    read_ours = cache(partial(read, approved=None))

    def read_once(path: Path, name: str, *, approved: Collection[str] | None) -> Any:
        is_ours = approved is None and path.is_relative_to(ours)
        return read_ours(path, name) if is_ours else read(path, name, approved=approved)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "_read", read_once)
        yield


@contextmanager
def heard(level: str) -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level=level)
    yield lines
    logger.remove(sink)


@pytest.fixture
def no_least_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Retry-After of 0 seconds is no wait, where the wait is not the subject."""
    monkeypatch.setattr("worker.untrusted.retry_after.MIN_RETRY_AFTER_S", 0.0)


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
