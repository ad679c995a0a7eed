"""Run the intake, and drain it at the end: finish the jobs under way, within limits that signals shorten."""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from loguru import logger

from worker.aio import first_of
from worker.jobs.in_flight import SHUTTING_DOWN, JobsInFlight
from worker.units import counted

if TYPE_CHECKING:
    from worker.scheduling.intake import Intake

#: Seconds for jobs under way after `stop`; then they are faulted. With reporting and stopping the engines it stays
#: below the two minutes that containers usually get.
DRAIN_LIMIT_S = 100.0
#: Seconds for jobs that an engine has started, after `hasten`.
HASTE_LIMIT_S = 10.0


async def until_drained(
    intake: "Intake",
    in_flight: JobsInFlight,
    *,
    stop: asyncio.Event,
    hasten: asyncio.Event,
    limit_s: float = DRAIN_LIMIT_S,
    haste_limit_s: float = HASTE_LIMIT_S,
) -> int:
    """Run the intake until `stop` is set and every job is answered; return how many jobs were given back undone.

    `hasten` gives back jobs that no engine has started; cancelling gives back all. Raises what the intake raises.
    """
    running = asyncio.ensure_future(intake.run(stop))
    given_back = 0
    try:
        await first_of(stop, beside=[running])
        if not running.done():
            logger.info(
                "Stopping: no new jobs; {} under way get up to {:.0f} s. Once more to hasten.",
                len(in_flight.jobs),
                limit_s,
            )
        await first_of(hasten, beside=[running], within_s=limit_s)
        if hasten.is_set() and not running.done():
            jobs = [job for job in in_flight.jobs if job.needs_engine and not job.is_lost]
            waiting = [job for job in jobs if job.started_at is None]
            for job in waiting:
                in_flight.drop(job, SHUTTING_DOWN)
            given_back = len(waiting)
            logger.info(
                "In haste: {} given back, {} in work get up to {:.0f} s. Once more to stop at once.",
                counted(len(waiting), "waiting job"),
                len(in_flight.jobs) - len(waiting),
                haste_limit_s,
            )
            await first_of(beside=[running], within_s=haste_limit_s)
    finally:
        left = [job for job in in_flight.jobs if not job.is_lost]
        given_back += len(left)
        if not running.done():
            if left:
                logger.warning("Stopping now, with {} given back to the Horde.", counted(len(left), "job"))
            running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return given_back
