"""The gate: what a safety checker answers, and what that means for an image.

Every image passes `check` before it is encoded. A checker that can't answer raises SafetyUnavailable, and the
image stays where it is.
"""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from worker.images import RawImage


@dataclass(frozen=True)
class Verdict:
    """What an image shows, and what leaves in its place when it may not leave itself."""

    nsfw: bool = False
    csam: bool = False
    replacement: RawImage | None = None


class SafetyChecker(Protocol):
    """Looks at every image of every job."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """Around all use, for as long as the worker lives."""
        ...

    async def check(self, image: RawImage, *, prompt: str, model: str, censor_nsfw: bool) -> Verdict:
        """The verdict on one image. Raises SafetyUnavailable when there is none to be had."""
        ...

    def may_serve(self, horde_url: str) -> bool:
        """Whether images checked by this checker may go to this Horde."""
        ...


class NoChecker:
    """Passes everything, and therefore serves only a Horde on this machine, whose images nobody else sees."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """There is nothing to start or to end."""
        return nullcontext()

    async def check(self, image: RawImage, *, prompt: str, model: str, censor_nsfw: bool) -> Verdict:  # noqa: ARG002 - the protocol's
        """Nothing was looked at."""
        return Verdict()

    def may_serve(self, horde_url: str) -> bool:
        return urlsplit(horde_url).hostname in ("127.0.0.1", "localhost", "::1")
