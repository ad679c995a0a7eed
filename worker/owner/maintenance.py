"""Maintenance mode, in which the Horde gives a worker only its owner's jobs: report, leave and enter it."""

import asyncio

from loguru import logger

from worker.app.context import RunningWorker
from worker.errors import HordeError
from worker.horde.messages import WorkerDetails

#: Seconds between two looks at the engines, and before a switch that failed is tried again.
TICK_S, TRY_AGAIN_S = 5.0, 60.0
BROKEN = "No engine of this worker runs; it comes back by itself."
LEAVE = "When the cause is mended: `horde-bridge maintenance off`, or remove_maintenance_on_init in the settings."


async def watch_maintenance(running: RunningWorker) -> None:
    """A background task: report or end maintenance at the start, as the settings say; then watch the engines."""
    name = running.live.data.dreamer_name
    try:
        await _at_start(running, await running.horde.worker_by_name(name))
    except HordeError as error:
        logger.warning("Whether the worker is in maintenance mode is not known: {}", error)
    maintenance = AutoMaintenance()
    while True:
        await asyncio.sleep(TICK_S)
        await maintenance.look(running, now=asyncio.get_running_loop().time())


async def _at_start(running: RunningWorker, worker: WorkerDetails | None) -> None:
    if worker is None:
        return
    if worker.paused:
        logger.warning("A moderator of the Horde has paused this worker; ask on the Horde's Discord for the reason.")
    if not worker.maintenance_mode:
        return
    if not running.live.data.remove_maintenance_on_init:
        logger.bind(action="in_maintenance").warning("The worker is in maintenance mode. {}", LEAVE)
        return
    await running.horde.set_maintenance(worker.id, on=False)
    logger.bind(action="maintenance_left").info("The worker was in maintenance mode and is taken out of it.")


class AutoMaintenance:
    """Enters maintenance while no engine runs, if the owner wants that, and leaves it when one does."""

    def __init__(self) -> None:
        self._down_since: float | None = None
        self._entered = False
        self._not_before = float("-inf")

    async def look(self, running: RunningWorker, *, now: float) -> None:
        """Call every few seconds; `now` on a monotonic clock."""
        limit_min = running.live.data.maintenance_when_broken_minutes
        if running.pool.ready_slots:
            self._down_since = None
            if self._entered and await self._switch(running, now, on=False):
                self._entered = False
                logger.bind(action="maintenance_left").info("An engine runs again: the worker is out of maintenance.")
            return
        self._down_since = now if self._down_since is None else self._down_since
        long = limit_min and now - self._down_since >= limit_min * 60
        if long and not self._entered and await self._switch(running, now, on=True):
            self._entered = True
            logger.bind(action="maintenance_entered").error(
                "No engine has run for {} minutes: the worker is put into maintenance until one does.", limit_min
            )

    async def _switch(self, running: RunningWorker, now: float, *, on: bool) -> bool:
        if now < self._not_before:
            return False
        done = await _switch(running, on=on)
        self._not_before = float("-inf") if done else now + TRY_AGAIN_S
        return done


async def _switch(running: RunningWorker, *, on: bool) -> bool:
    """Whether it was switched. A maintenance that is on already is the owner's, who will end it."""
    name = running.live.data.dreamer_name
    try:
        worker = await running.horde.worker_by_name(name)
        if worker is None or (on and worker.maintenance_mode):
            return False
        await running.horde.set_maintenance(worker.id, on=on, message=BROKEN if on else "")
    except HordeError as error:
        logger.warning("The maintenance mode can't be switched: {}", error)
        return False
    return True
