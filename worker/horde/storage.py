"""The Horde's object storage: pictures in and out by presigned URL.

No header but what HTTP needs goes there: no API key, no content type. Redirects are not followed: a presigned address
has none, and another host is not whom the Horde named.
"""

import asyncio
import re

from worker.errors import HordeBusy, HordeError, HordeUnreachable, JobError, JobLate, UploadFailed
from worker.horde.connections import Connections
from worker.horde.error_mapping import retry_after_s
from worker.horde.http import Answer, exchange, persist
from worker.horde.limits import Limits
from worker.horde.links import is_web_address, redact, request_target

#: longest answer to an upload that is read; only an error has a body, a short one
_ERROR_BYTES = 64 * 1024
#: answers besides 5xx that another try may mend; S3 tells of a stalled upload by a code within a 400
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
            answer = await self._try("PUT", url, ends_at, max_bytes=_ERROR_BYTES, content=data)
            if not answer.is_success:
                raise _passing(answer) or UploadFailed(
                    f"The storage refused the image for {redact(url)}: {_said(answer)}.",
                    remedy="The address may have expired: half an hour after the job." if answer.status == 403 else "",  # noqa: PLR2004 - what S3 answers to an expired signature
                )

        try:
            await persist(attempt, self._limits.transfer_retry, ends_at)
        except HordeError as error:
            raise UploadFailed(f"The image could not be stored at {redact(url)}: {error.message}") from error

    async def get(self, url: str, max_bytes: int, *, deadline: float | None = None) -> bytes:
        """A requester's picture. Raises JobError when it can't be had or is too large; JobLate past the deadline."""
        if not is_web_address(url):
            raise JobError("The address of the source picture is no web address.")
        ends_at = self._end(deadline)

        async def attempt() -> bytes:
            answer = await self._try("GET", url, ends_at, max_bytes=max_bytes)
            if not answer.is_success:
                raise _passing(answer) or JobError(f"There is no source picture at {redact(url)}: {_said(answer)}.")
            if answer.oversized:
                raise JobError(f"The source picture at {redact(url)} is larger than {max_bytes} bytes.")
            if answer.cut:
                raise HordeUnreachable(f"the picture breaks off: {answer.cut}.")
            return answer.body

        try:
            return await persist(attempt, self._limits.transfer_retry, ends_at)
        except HordeError as error:
            raise JobError(f"The source picture at {redact(url)} could not be fetched: {error.message}") from error

    def _end(self, deadline: float | None) -> float:
        now = asyncio.get_running_loop().time()
        if deadline is None:
            return now + self._limits.transfer_retry.within_s
        if deadline <= now:
            raise JobLate("The job's time is over; nothing more is transferred for it.")
        return deadline

    async def _try(
        self, method: str, url: str, ends_at: float, *, max_bytes: int, content: bytes | None = None
    ) -> Answer:
        limits = self._limits
        request = self._connections.build_request(method, url, content=content, headers={"Accept-Encoding": "identity"})
        if request.url.raw_path != (exact := request_target(url)):
            request.extensions["target"] = exact
        left_s = ends_at - asyncio.get_running_loop().time()
        return await exchange(self._connections, request, max_bytes=max_bytes, within_s=min(limits.transfer_s, left_s))


def _passing(answer: Answer) -> HordeError | None:
    """The error to try again after, or None when the answer is final."""
    if answer.status == 429:  # noqa: PLR2004 - HTTP's "too many requests"
        return HordeBusy("it is busy.", retry_after_s=retry_after_s(answer.headers.get("retry-after", "")))
    if answer.status >= 500 or answer.status in _PASSING_STATUS or _code(answer) == _PASSING_CODE:  # noqa: PLR2004 - HTTP's server errors
        return HordeUnreachable(f"{_said(answer)}.", status=answer.status)
    return None


def _said(answer: Answer) -> str:
    code = _code(answer)
    return f"HTTP {answer.status} {code}" if code else f"HTTP {answer.status}"


def _code(answer: Answer) -> str:
    found = _S3_CODE.search(answer.body)
    return found[1].decode() if found else ""
