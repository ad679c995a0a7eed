"""The Horde's object storage: pictures in and out by presigned URL.

A presigned URL is a key: whoever has its query can write to the storage, so it appears in no log and no error. And it
is signed: one character encoded differently makes it invalid, so it is sent as it stands. No header goes there but what
HTTP needs: no API key, no content type. Redirects are not followed: a presigned address has none, and another host is
not the one that the Horde named.
"""

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

from worker.errors import DownloadError, HostUnreachable, JobError, JobLate, UploadFailed
from worker.horde.backoff import repeat
from worker.horde.http import Answer, Connections, exchange
from worker.horde.limits import Limits
from worker.untrusted.addresses import is_web_address
from worker.untrusted.http_body import IDENTITY
from worker.untrusted.pictures import Reservation
from worker.untrusted.retry_after import retry_after_s
from worker.untrusted.text import redact_links

#: longest answer to an upload that is read; only an error has a body, a short one
_ERROR_BYTES = 64 * 1024
#: answers besides 5xx that another try may mend; S3 reports a stalled upload by a code within a 400
_PASSING_STATUS = frozenset({408, 425})
_PASSING_CODE = "RequestTimeout"

_S3_CODE = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")


class Storage:
    """Uploads and downloads. `deadline`: the event loop's time; it ends a running try."""

    def __init__(self, connections: Connections, limits: Limits) -> None:
        self._connections = connections
        self._limits = limits

    async def put(self, url: str, data: bytes, *, deadline: float | None = None) -> None:
        """Store the bytes under a presigned address. Raises UploadFailed; JobLate when the deadline has passed."""
        if not is_web_address(url):
            raise UploadFailed("The Horde's upload address is no web address.")
        ends_at = self._end(deadline)

        async def attempt() -> None:
            answer = await self._send("PUT", url, ends_at, content=data, max_bytes=_ERROR_BYTES)
            if not answer.is_success:
                raise _passing(answer) or UploadFailed(
                    f"The storage refused the image for {redact_links(url)}: {_said(answer)}.",
                    remedy="The address may have expired: half an hour after the job." if answer.status == 403 else "",  # noqa: PLR2004 - what S3 answers to an expired signature
                )

        try:
            await repeat(attempt, self._limits.transfer_retry, ends_at)
        except DownloadError as error:
            raise UploadFailed(f"The image could not be stored at {redact_links(url)}: {error.message}") from error

    async def get(
        self, url: str, max_bytes: int, *, deadline: float | None = None, memory: Reservation | None = None
    ) -> bytes:
        """A requester's picture, its bytes taken from `memory`.

        Raises JobError when there is none or it is too large; JobLate past the deadline.
        """
        if not is_web_address(url):
            raise JobError("The address of the source picture is no web address.")
        ends_at = self._end(deadline)

        async def attempt() -> bytes:
            taken = 0

            async def take(count: int) -> None:
                nonlocal taken
                if memory is not None:
                    await memory.take(count)
                    taken += count

            try:
                answer = await self._send("GET", url, ends_at, max_bytes=max_bytes, partial=False, on_bytes=take)
                return _picture(answer, url)
            except BaseException:
                if memory is not None:
                    memory.free(taken)
                raise

        try:
            return await repeat(attempt, self._limits.transfer_retry, ends_at)
        except DownloadError as error:
            raise JobError(
                f"The source picture at {redact_links(url)} could not be fetched: {error.message}"
            ) from error

    def _end(self, deadline: float | None) -> float:
        now = asyncio.get_running_loop().time()
        if deadline is None:
            return now + self._limits.transfer_retry.within_s
        if deadline <= now:
            raise JobLate("The job's time is over; nothing more is transferred for it.")
        return deadline

    async def _send(
        self, method: str, url: str, ends_at: float, *, content: bytes | None = None, **reading: Any
    ) -> Answer:
        """One try. `reading`: how `exchange` is to read the answer."""
        request = self._connections.build_request(method, url, content=content, headers=IDENTITY)
        request.extensions["target"] = _request_target(url)
        within_s = min(self._limits.transfer_s, ends_at - asyncio.get_running_loop().time())
        return await exchange(self._connections, request, within_s=within_s, **reading)


def _picture(answer: Answer, url: str) -> bytes:
    """The body of a good answer. Raises JobError, HostUnreachable when another try may bring it."""
    if not answer.is_success:
        raise _passing(answer) or JobError(f"There is no source picture at {redact_links(url)}: {_said(answer)}.")
    if answer.refused:
        raise JobError(f"The source picture at {redact_links(url)} is refused: {answer.cut}.")
    if answer.cut:
        raise HostUnreachable(f"the picture breaks off: {answer.cut}.")
    return answer.body


def _request_target(url: str) -> bytes:
    """Path and query exactly as they stand in the web address, for the request line."""
    parts = urlsplit(url)
    path = parts.path or "/"
    return (f"{path}?{parts.query}" if parts.query else path).encode("ascii")


def _passing(answer: Answer) -> HostUnreachable | None:
    """The error to try again after, or None when the answer is final."""
    if answer.status == 429:  # noqa: PLR2004 - HTTP's "too many requests"
        wait_s = retry_after_s(answer.headers.get("retry-after", ""))
        return HostUnreachable("it is busy.", status=answer.status, retry_after_s=wait_s)
    if answer.status >= 500 or answer.status in _PASSING_STATUS or _code(answer) == _PASSING_CODE:  # noqa: PLR2004 - HTTP's server errors
        return HostUnreachable(f"{_said(answer)}.", status=answer.status)
    return None


def _said(answer: Answer) -> str:
    code = _code(answer)
    return f"HTTP {answer.status} {code}" if code else f"HTTP {answer.status}"


def _code(answer: Answer) -> str:
    found = _S3_CODE.search(answer.body)
    return found[1].decode() if found else ""
