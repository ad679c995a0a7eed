"""One HTTP request and its answer, bounded in time and size, and the patience to send it again.

What arrived is never thrown away: an answer that breaks off comes back with the bytes received so far and the reason,
because the ids of a popped job may stand in them.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from loguru import logger

from worker.aio import timeout
from worker.errors import HordeBusy, HordeError, HordeUnreachable, Retry
from worker.horde.backoff import RetryPolicy
from worker.horde.connections import Connections
from worker.horde.links import redact

Result = TypeVar("Result")


class _NoRequestLines(logging.Filter):
    """httpx logs each request with its whole URL, presigned query included; its warnings may pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


logging.getLogger("httpx").addFilter(_NoRequestLines())


@dataclass(frozen=True)
class Answer:
    """An HTTP response, perhaps cut off: then `cut` says why the body is not whole."""

    status: int
    headers: httpx.Headers
    body: bytes
    cut: str = ""
    #: cut off by us
    oversized: bool = False

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 - the range of HTTP's success codes

    def json_object(self) -> dict[str, Any] | None:
        """The body as JSON, or None when it is no JSON object."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


async def exchange(connections: Connections, request: httpx.Request, *, max_bytes: int, within_s: float) -> Answer:
    """Send once and read the answer up to `max_bytes`. Raises HordeUnreachable (status 0) when none began to arrive.

    Nothing is asked to be compressed; what comes so nevertheless is unpacked piece by piece under the same bound.
    """
    response: httpx.Response | None = None
    body = bytearray()
    cut = ""
    oversized = False
    try:
        async with timeout(within_s), connections.stream(request) as response:
            async for piece in response.aiter_bytes():
                body += piece
                if oversized := len(body) > max_bytes:
                    del body[max_bytes:]
                    cut = f"it is longer than {max_bytes} bytes"
                    break
    except TimeoutError:
        cut = f"no end of it within {within_s:g} s"
    except httpx.RequestError as error:
        cut = _reason(error)
    if response is None:
        raise HordeUnreachable(f"{request.url.host} did not answer {request.method} {request.url.path}: {cut}.")
    return Answer(response.status_code, response.headers, bytes(body), cut, oversized)


async def persist(attempt: Callable[[], Awaitable[Result]], policy: RetryPolicy, deadline: float) -> Result:
    """Try until it succeeds, fails for good, or the policy or the deadline (event loop's time) ends it.

    The first try is always made. Failures that another try may mend are HordeErrors whose `retry` says so.
    """
    loop = asyncio.get_running_loop()
    failures = answered = 0
    while True:
        try:
            return await attempt()
        except HordeError as error:
            failures += 1
            answered += not _is_passing(error.status)
            wait_s = policy.wait_s(failures, random.random())
            if isinstance(error, HordeBusy):
                wait_s = max(wait_s, error.retry_after_s)
            if error.retry is Retry.NO or answered >= policy.tries or loop.time() + wait_s >= deadline:
                raise
            logger.bind(action="horde_retry", failures=failures, wait_s=wait_s).debug("{} Trying again.", error.message)
        await asyncio.sleep(wait_s)


def _is_passing(status: int) -> bool:
    """Whether such failures say nothing about the request: no answer, too many requests, what stands in between."""
    return status in {0, 429} or status > 500  # noqa: PLR2004 - 500 is the Horde's own, and may be final


def _reason(error: httpx.RequestError) -> str:
    said = redact(str(error))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
