"""The safety checker that serves the Horde: horde-safety in a child process, restarted whenever it is lost.

Images are checked one after another in the order of arrival. While the child is down they wait, each until its own
deadline; an image on which the child fails twice is not checked a third time. No image leaves unchecked.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from loguru import logger
from PIL import Image, ImageDraw, ImageFont

from worker.aio import meanwhile, timeout_at
from worker.clock import Clock, monotonic
from worker.errors import SafetyUnavailable, WorkerError
from worker.images import RawImage
from worker.process.supervisor import RestartPolicy, Supervisor
from worker.safety.child_process import SafetyProcess, SafetySettings, fits
from worker.safety.verdict import Censorship, Finding, Rules, Verdict, judge

#: Reserved after the verdict for encoding, uploading and submitting the image.
DELIVERY_RESERVE_S = 10.0
#: Of the aesthetic estimator.
HIGHEST_SCORE = 10
#: Failed checks of one image, or in a row, after which no more are tried.
MAX_FAILED_CHECKS = 2
STARTING = "the safety checker is starting"
#: With more images than this waiting no more jobs are popped: the checker is slower than the engines.
BACKLOG = 8
#: Of the panel in place of a censored image. Smaller text can't be read.
GROUND, BORDER, INK = (32, 34, 38), (96, 100, 108), (214, 217, 222)
SMALLEST_FONT_PX = 7
#: Panels cached, since the same few are drawn again and again. One of the Horde's largest size has 28 MB.
KEPT_PANELS = 4


@dataclass(eq=False)
class _PendingImage:
    """An image that waits for its check."""

    image: RawImage
    prompt: str
    model: Mapping[str, Any]
    found: "asyncio.Future[Finding]"
    failed: int = 0


@dataclass(eq=False)
class SafetyGate:
    """`async with checker.running():` around all use."""

    #: read before each start of the child
    settings: Callable[[], SafetySettings]
    #: the owner's rules, read for each verdict
    rules: Callable[[], Rules] = Rules
    #: entry of the model reference: name, nsfw, style, tags …; empty for a custom model
    facts: Callable[[str], Mapping[str, Any]] = lambda _: {}
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    clock: Clock = monotonic
    #: why nothing can be checked now; empty while the child is ready
    down: str = STARTING
    process: SafetyProcess | None = None

    def __post_init__(self) -> None:
        self._waiting: deque[_PendingImage] = deque()
        self._arrived = asyncio.Event()
        self._supervisor = Supervisor(
            "safety checker", self._live, policy=self.policy, on_down=self._on_down, clock=self.clock
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts the child in the background on entry, ends it on exit."""
        async with meanwhile(self._supervisor.run()):
            yield

    def may_serve(self, horde_url: str) -> bool:  # noqa: ARG002 - any: this is the real checker
        return True

    def hold(self) -> str:
        if self.down:
            return self.down
        return "images wait for the safety checker" if len(self._waiting) > BACKLOG else ""

    async def check(
        self, image: RawImage, *, prompt: str, model: str, censor_nsfw: bool, deadline: float = float("inf")
    ) -> Verdict:
        if not fits(image):
            raise SafetyUnavailable(
                f"An image of {image.width} x {image.height} is too large for the safety checker.",
                remedy="Lower max_power, or allow no post-processing.",
            )
        facts = self.facts(model)
        loop = asyncio.get_running_loop()
        reserve_s = min(DELIVERY_RESERVE_S, (deadline - loop.time()) / 2)
        waiting = _PendingImage(image, prompt, facts, loop.create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            async with timeout_at(deadline - reserve_s if deadline < float("inf") else None):
                finding = await waiting.found
        except TimeoutError as error:
            reason = self.down or "other images were before it"
            raise SafetyUnavailable(f"No verdict within the job's time: {reason}.") from error
        finally:
            waiting.found.cancel()
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiting)
        rules = self.rules()
        censorship = judge(finding, rules, censor_nsfw=censor_nsfw, nsfw_model=bool(facts.get("nsfw")))
        if censorship is None:
            return Verdict(nsfw=finding.nsfw, aesthetic=finding.aesthetic if rules.tells_score else None)
        logger.bind(action="censored", reason=censorship.name).info("An image is withheld: {}", censorship.name.lower())
        replacement = await asyncio.to_thread(draw_replacement, image.width, image.height, censorship)
        return Verdict(nsfw=finding.nsfw, csam=finding.csam, replacement=replacement)

    def _on_down(self, reason: WorkerError, _pause_s: float) -> None:
        self.down = f"the safety checker is down: {reason.message.splitlines()[0].rstrip('.')}"

    async def _live(self) -> None:
        """One life of the child, from launch to end. Raises SafetyUnavailable with the reason of the end."""
        self.process = process = SafetyProcess(self.settings())
        began = self.clock()
        try:
            await process.start()
            while said := await process.said():
                self.down = STARTING
                logger.bind(action="safety_start").info("Safety checker: {}", said)
            self.down = ""
            self._supervisor.serving()
            logger.bind(action="safety_ready", pid=process.pid).info(
                "Safety checker ready after {:.1f} s (pid {})", self.clock() - began, process.pid
            )
            errors = 0
            while errors < MAX_FAILED_CHECKS:
                waiting = await self._next(process)
                errors = 0 if await self._check(process, waiting) else errors + 1
            raise SafetyUnavailable("The safety checker fails on every image.")
        finally:
            await process.stop()

    async def _next(self, process: SafetyProcess) -> _PendingImage:
        """The next image to check. Raises SafetyUnavailable when the child ends meanwhile."""
        async with meanwhile(process.wait()) as (death,):
            while not self._waiting:
                self._arrived.clear()
                async with meanwhile(self._arrived.wait()) as (arrival,):
                    await asyncio.wait((death, arrival), return_when=asyncio.FIRST_COMPLETED)
                if death.done():
                    death.result()
            return self._waiting[0]

    async def _check(self, process: SafetyProcess, waiting: _PendingImage) -> bool:
        """Check one image. Returns whether there is a finding. Raises SafetyUnavailable when the child is lost."""
        try:
            answer = await process.ask(waiting.image, prompt=waiting.prompt, model=waiting.model)
            finding = _finding(answer)
        except SafetyUnavailable as error:
            self._failed(waiting, error)
            raise
        except Exception as error:
            # The state of the child is unknown: it is replaced, and the image has one check less.
            lost = SafetyUnavailable(f"The safety checker failed: {type(error).__name__}: {str(error).rstrip('.')}.")
            self._failed(waiting, lost)
            raise lost from error
        if finding is None:
            self._failed(
                waiting, SafetyUnavailable(f"The safety checker failed: {str(answer.get('error')).rstrip('.')}.")
            )
            return False
        self._settle(waiting)
        if not waiting.found.done():
            waiting.found.set_result(finding)
        return True

    def _failed(self, waiting: _PendingImage, error: SafetyUnavailable) -> None:
        waiting.failed += 1
        if waiting.failed >= MAX_FAILED_CHECKS:
            self._settle(waiting)
            if not waiting.found.done():
                waiting.found.set_exception(error)

    def _settle(self, waiting: _PendingImage) -> None:
        with contextlib.suppress(ValueError):  # its job has given up meanwhile
            self._waiting.remove(waiting)


def _finding(answer: Mapping[str, Any]) -> Finding | None:
    """The finding in an answer; None for an error. Raises SafetyUnavailable for anything else."""
    if "error" in answer:
        return None
    nsfw, csam = answer.get("nsfw"), answer.get("csam")
    if not isinstance(nsfw, bool) or not isinstance(csam, bool):
        raise SafetyUnavailable("The safety checker's answer can't be read.")
    score = answer.get("aesthetic")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= HIGHEST_SCORE:
        score = None
    return Finding(nsfw, csam, score)


@lru_cache(KEPT_PANELS)
def draw_replacement(width: int, height: int, reason: Censorship) -> RawImage:
    """A panel of exactly this size; without text where it would not fit."""
    panel = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(panel)
    inset = min(width, height) // 32
    pen.rectangle((inset, inset, width - 1 - inset, height - 1 - inset), outline=BORDER, width=max(1, inset // 4))
    size = min(width, height) // 14
    if size >= SMALLEST_FONT_PX:
        font = ImageFont.load_default(size)
        text = "\n".join(_lines(reason.value, pen, font, width - 6 * inset))
        pen.multiline_text((width / 2, height / 2), text, INK, font, anchor="mm", align="center", spacing=size // 3)
    return RawImage(width, height, "RGB", panel.tobytes())


def _lines(
    text: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, limit: int
) -> list[str]:
    """The text in lines that are no longer than `limit` pixels, as far as its words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and pen.textlength(longer, font) > limit:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
