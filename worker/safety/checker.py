"""The gate: what a safety checker answers.

Every image passes `check` before it is encoded. A checker that can't answer raises SafetyUnavailable, and the
image stays where it is.
"""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol
from urllib.parse import urlsplit

from worker.images import RawImage
from worker.safety.verdict import Verdict


class SafetyChecker(Protocol):
    """Looks at every image of every job."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """Whatever the checker needs while the worker is at work."""
        ...

    async def check(
        self, image: RawImage, *, prompt: str, model: str, censor_nsfw: bool, deadline: float = float("inf")
    ) -> Verdict:
        """The verdict on one image. `prompt` as the requester wrote it, with what stands after `###`.

        `deadline`: seconds on the loop's clock. Raises SafetyUnavailable when there is none to be had by then.
        """
        ...

    def may_serve(self, horde_url: str) -> bool:
        """Whether images checked by this checker may go to this Horde."""
        ...

    def hold(self) -> str:
        """Why no more jobs should be taken for now; empty when all is well."""
        ...


class NoChecker:
    """Passes everything, and therefore serves only a Horde on this machine, whose images nobody else sees."""

    def running(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    async def check(
        self,
        image: RawImage,  # noqa: ARG002 - the protocol's
        *,
        prompt: str,  # noqa: ARG002
        model: str,  # noqa: ARG002
        censor_nsfw: bool,  # noqa: ARG002
        deadline: float = float("inf"),  # noqa: ARG002
    ) -> Verdict:
        """Nothing was looked at."""
        return Verdict()

    def may_serve(self, horde_url: str) -> bool:
        return urlsplit(horde_url).hostname in ("127.0.0.1", "localhost", "::1")

    def hold(self) -> str:
        return ""
