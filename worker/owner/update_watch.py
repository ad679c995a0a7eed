"""The running worker and newer versions of itself: one on trial is confirmed, or given up; others are looked for."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loguru import logger

from worker import __version__
from worker.app.context import RunningWorker
from worker.config.schema import BridgeData
from worker.errors import WorkerError
from worker.status.board import StatusBoard
from worker.update.releases import Offer
from worker.update.stage import look, stage
from worker.update.switch import ask_restart, confirm, given_up, on_trial, returning, write_journal

#: Seconds from the start to the first look, and between two. Some hours apart from others who started with this one.
FIRST_S, PERIOD_S, SPREAD_S = 600.0, 86_400.0, 7_200.0
#: A version on trial whose engines do not run within this time is given up. A cold start takes minutes.
TRIAL_S: Final = 900.0


async def _look(root: Path, settings: BridgeData) -> Offer | None:
    looking = look(root, source=settings.update_source, channel=settings.update_channel)
    return await asyncio.to_thread(asyncio.run, looking)


@dataclass(eq=False)
class UpdateWatch:
    """A background task, which begins when the first engine is ready; so what is on trial serves."""

    root: Path
    first_s: float = FIRST_S
    period_s: float = PERIOD_S
    looking: Callable[[Path, BridgeData], Awaitable[Offer | None]] = _look
    _told: str = field(default="", init=False)

    async def __call__(self, running: RunningWorker) -> None:
        try:
            if version := await asyncio.to_thread(confirm, self.root):
                logger.bind(action="update_confirmed").info("Version {} serves, and stays.", version)
        except OSError as error:
            logger.warning("That version {} serves can't be noted: {}.", __version__, error.strerror)
        await asyncio.sleep(self.first_s)
        while True:
            settings = running.live.data
            if settings.auto_update != "off":
                await self._once(running, settings)
            await asyncio.sleep(self.period_s + random.uniform(0, min(SPREAD_S, self.period_s)))

    async def _once(self, running: RunningWorker, settings: BridgeData) -> None:
        try:
            offer = await self.looking(self.root, settings)
            if offer is None or offer.version == await asyncio.to_thread(given_up, self.root):
                return
            if settings.auto_update == "ask":
                if offer.version != self._told:
                    self._told = offer.version
                    logger.bind(action="update_available").info(
                        "Version {} is there; this is {}. `horde-bridge update` shows what is new and takes it.",
                        offer.version, __version__,
                    )  # fmt: skip
                return
            # In a thread with a loop of its own: git, hashing and unpacking keep a loop for seconds.
            staged = await asyncio.to_thread(asyncio.run, stage(self.root, offer, lambda *_: None))
            for line in staged.settings:
                logger.info("Version {} says of the settings: {}", offer.version, line)
            ask_restart(self.root)
        except (WorkerError, OSError) as error:
            logger.bind(action="update_failed").info("No newer version could be had: {}", error)
            return
        logger.bind(action="update_taken").info(
            "Version {} lies ready. The worker finishes its jobs, and starts again with it.", offer.version
        )
        running.status.steering.finish()


@dataclass(eq=False)
class TrialWatch:
    """A reader that runs from the start: gives a version up whose engines do not come to run."""

    root: Path
    trial_s: float = TRIAL_S

    async def __call__(self, status: StatusBoard) -> None:
        if await asyncio.to_thread(on_trial, self.root) is None:
            return
        await asyncio.sleep(self.trial_s)
        journal = await asyncio.to_thread(on_trial, self.root)
        if journal is None:
            return
        logger.bind(action="update_given_up").error(
            "Version {} has not served within {:.0f} minutes: {} is taken again.",
            journal.version, self.trial_s / 60, journal.previous,
        )  # fmt: skip
        await asyncio.to_thread(write_journal, self.root, returning(journal))
        await asyncio.to_thread(ask_restart, self.root)
        status.steering.finish()
