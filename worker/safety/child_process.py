"""The safety child as the worker sees it: start, questions, end. One object is one life of the child."""

import asyncio
import contextlib
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.aio import timeout
from worker.errors import InputRefused, SafetyUnavailable
from worker.images import RawImage
from worker.process.child import end_child, log_tail, open_log, start_child
from worker.process.orphans import note_child
from worker.safety.child.service import LARGEST_BODY, PREFIX, pack, unpack_prefix
from worker.untrusted.json_reader import JsonBounds, read_json_object

#: An answer has a few values; what is told while it starts is a line.
ANSWER_BOUNDS = JsonBounds(max_values=1000, max_depth=16)
#: The program for the engine's Python.
CHILD = Path(__file__).with_name("child")
#: Longest silence of a starting child, which reports its progress. Encoding the phrases that CLIP compares images
#: with takes a small CPU minutes.
START_SILENCE_S = 900.0
#: Longest check of one image. A busy CPU with two cores takes half a minute.
CHECK_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 2.0
#: Pixels are written in pieces of this size, so that a large image does not hold up the event loop.
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class SafetySettings:
    """Everything that decides how the child runs."""

    command: tuple[str, ...]
    #: the child's own; the next run of the worker finds orphans by the notes in it
    folder: Path
    log_file: Path
    environment: dict[str, str] = field(default_factory=dict)
    start_silence_s: float = START_SILENCE_S
    check_timeout_s: float = CHECK_TIMEOUT_S


def fits(image: RawImage) -> bool:
    """Whether an image is small enough for the pipe."""
    return len(image.pixels) <= LARGEST_BODY


class SafetyProcess:
    """`start` once, `ask` about one image after another, `stop` once. Every failure is a SafetyUnavailable."""

    def __init__(self, settings: SafetySettings) -> None:
        self._settings = settings
        self._child: asyncio.subprocess.Process | None = None
        #: the question that is being answered; empty between two
        self.asked = ""

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    async def start(self) -> None:
        """Launch the process; `said` tells when it is ready."""
        settings = self._settings
        try:
            settings.folder.mkdir(parents=True, exist_ok=True)
            log = await open_log(settings.log_file)
        except OSError as error:
            raise SafetyUnavailable(
                f"The safety checker's folder or log can't be written: {error}.", remedy="Make room on the disk."
            ) from error
        with log:
            try:
                self._child = await start_child(
                    settings.command, settings.environment, stdout=subprocess.PIPE, stderr=log
                )
            except OSError as error:
                raise SafetyUnavailable(
                    f"The safety checker's Python {settings.command[0]} can't be started: {error}.",
                    remedy="Run update-runtime.",
                ) from error
        note_child(settings.folder, self._child.pid)

    async def said(self) -> str:
        """The next report of the starting child; empty once it is ready."""
        message = await self._read(self._settings.start_silence_s, "said nothing")
        if "failed" in message:
            raise SafetyUnavailable(str(message["failed"]), remedy=str(message.get("remedy", "")))
        return "" if "ready" in message else str(message.get("said") or "something")

    async def ask(self, image: RawImage, *, prompt: str, model: Mapping[str, Any]) -> dict[str, Any]:
        """The child's answer on one image, which `fits` the pipe."""
        # Unguessable, so that an answer written before its question is refused.
        self.asked = secrets.token_urlsafe(16)
        question = {
            "id": self.asked, "width": image.width, "height": image.height, "mode": image.mode, "prompt": prompt,
            "model": dict(model),
        }  # fmt: skip
        limit_s = self._settings.check_timeout_s
        try:
            async with timeout(limit_s):
                await self._write(pack(question, len(image.pixels)), image.pixels)
        except (OSError, TimeoutError) as error:
            raise self._lost("took no image") from error
        answer = await self._read(limit_s, "did not answer")
        if answer.get("id") != self.asked:
            raise self._lost("answered what it was not asked")
        self.asked = ""
        return answer

    async def wait(self) -> None:
        """Wait until the child has ended; raises SafetyUnavailable then."""
        assert self._child is not None
        await self._child.wait()
        raise self._lost("ended by itself")

    async def stop(self) -> None:
        """End the process and read what it wrote."""
        if self._child is None:
            return
        await end_child(self._child, timeout_s=STOP_TIMEOUT_S, name="safety checker")
        assert self._child.stdout is not None
        # Unread output would keep the pipe open for ever.
        with contextlib.suppress(OSError, TimeoutError):
            async with timeout(STOP_TIMEOUT_S):
                while await self._child.stdout.read(PIECE_BYTES):
                    pass

    async def _write(self, head: bytes, pixels: bytes) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        self._child.stdin.write(head)
        view = memoryview(pixels)
        for begin in range(0, len(view), PIECE_BYTES):
            self._child.stdin.write(view[begin : begin + PIECE_BYTES])
            await self._child.stdin.drain()

    async def _read(self, limit_s: float, what: str) -> dict[str, Any]:
        assert self._child is not None
        assert self._child.stdout is not None
        try:
            async with timeout(limit_s):
                header_bytes, body_bytes = unpack_prefix(await self._child.stdout.readexactly(PREFIX.size))
                if body_bytes:
                    raise InputRefused("No answer has a body.")
                header = await self._child.stdout.readexactly(header_bytes)
            return read_json_object(header, ANSWER_BOUNDS)
        except TimeoutError as error:
            raise self._lost(f"{what} for {limit_s:.0f} s") from error
        except asyncio.IncompleteReadError as error:
            raise self._lost("ended") from error
        except ValueError as error:
            raise self._lost("answered garbage") from error

    def _lost(self, what: str) -> SafetyUnavailable:
        return SafetyUnavailable(f"The safety checker {what}.\n{log_tail(self._settings.log_file)}".strip())
