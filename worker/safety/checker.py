"""What a safety checker answers, and the checker that checks nothing.

Every image passes `check` before it is encoded. A checker without an answer raises SafetyUnavailable, and the image
does not leave.
"""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol
from urllib.parse import urlsplit

from worker.images import RawImage
from worker.safety.verdict import Verdict


class SafetyChecker(Protocol):
    """Checks every image of every job."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """Keeps the checker available for as long as the block lasts."""

    async def check(
        self, image: RawImage, *, prompt: str, model: str, censor_nsfw: bool, deadline: float = float("inf")
    ) -> Verdict:
        """The verdict on one image.

        `prompt`: as the requester wrote it, the part after `###` included. `deadline`: seconds on the event loop's
        clock. Raises SafetyUnavailable when there is no verdict by then.
        """

    def may_serve(self, horde_url: str) -> bool:
        """Whether images checked by this checker may go to this Horde."""

    def hold(self) -> str:
        """Why no more jobs should be popped now; empty when nothing speaks against it."""


class NoChecker:
    """Passes every image. Serves only a Horde on this machine, since its images are seen by nobody else."""

    def running(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    async def check(self, *_image: Any, **_job: Any) -> Verdict:
        return Verdict()

    def may_serve(self, horde_url: str) -> bool:
        return urlsplit(horde_url).hostname in ("127.0.0.1", "localhost", "::1")

    def hold(self) -> str:
        return ""
