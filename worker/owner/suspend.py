"""The machine slept, or this process stood still: what that means for jobs and engines."""

import asyncio

from loguru import logger

from worker.aio import timeout
from worker.app.context import Running
from worker.clock import Clock, duration, including_sleep
from worker.engine.slot import EngineSlot
from worker.errors import EngineError, EngineStalled

#: How often the clocks are compared.
TICK_S = 2.0
#: A gap that counts; a busy machine is late by less.
LEAST_GAP_S = 20.0
#: A job that its own time-out has not ended by so much is ended here.
GRACE_S = 2.0
#: An engine that does not answer by then after a sleep is started afresh.
ENGINE_ANSWER_S = 15.0


class ClockWatch:
    """An attendant."""

    def __init__(self, clock: Clock = including_sleep) -> None:
        self._clock = clock

    async def __call__(self, running: Running) -> None:
        loop = asyncio.get_running_loop()
        before, loop_before = self._clock(), loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now, loop_now = self._clock(), loop.time()
            gap_s = now - before - TICK_S
            # What the event loop's clock has not seen, and the time-outs of the jobs therefore don't know.
            unseen_s = max(0.0, (now - before) - (loop_now - loop_before))
            before, loop_before = now, loop_now
            if gap_s >= LEAST_GAP_S:
                await self._woke(running, gap_s, unseen_s)
            give_up_late(running, now=loop.time(), reason="The job was not done within its {:.0f} s.")

    async def _woke(self, running: Running, gap_s: float, unseen_s: float) -> None:
        logger.bind(action="woke", gap_s=gap_s).warning(
            "The machine slept or stood still for {}; jobs whose time is over are given up.", duration(gap_s)
        )
        for job in running.in_flight.jobs:
            job.popped_at -= unseen_s
        now = asyncio.get_running_loop().time() + GRACE_S
        give_up_late(running, now=now, reason="The machine slept beyond the job's {:.0f} s.")
        await asyncio.gather(*(_check(slot) for slot in running.pool.ready_slots))


def give_up_late(running: Running, *, now: float, reason: str) -> None:
    """End every job whose time to live has passed and that its own time-out has not ended.

    That goes by a clock that may have stood still, and what it breaks off may take long to end. `reason` has a place
    for the time to live.
    """
    for job in running.in_flight.jobs:
        if now > job.deadline + GRACE_S:
            running.in_flight.drop(job, reason.format(job.pop.ttl))


async def _check(slot: EngineSlot) -> None:
    try:
        async with timeout(ENGINE_ANSWER_S):
            await slot.client.system_stats()
    except (EngineError, TimeoutError) as error:
        slot.restart(EngineStalled(f"It does not answer after the machine's sleep: {str(error) or 'no answer'}"))
