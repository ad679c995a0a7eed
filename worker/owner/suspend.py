"""After the machine was suspended, or this process stopped: give up late jobs, check the engines."""

import asyncio
from dataclasses import dataclass

from loguru import logger

from worker.aio import timeout
from worker.app.context import RunningWorker
from worker.clock import Clock, duration, including_sleep
from worker.engine.slot import EngineSlot
from worker.errors import EngineError, EngineStalled

#: Seconds between two comparisons of the clocks.
TICK_S = 2.0
#: Seconds that count as a gap; a busy machine is late by less.
LEAST_GAP_S = 20.0
#: A job is ended here so many seconds after its own time-out should have done it.
GRACE_S = 2.0
#: An engine that does not answer within this time after a suspension is restarted.
ENGINE_ANSWER_S = 15.0


@dataclass(eq=False)
class ClockWatch:
    """A background task that compares the event loop's clock with one that counts suspended time."""

    clock: Clock = including_sleep
    tick_s: float = TICK_S

    async def __call__(self, running: RunningWorker) -> None:
        loop = asyncio.get_running_loop()
        before, loop_before = self.clock(), loop.time()
        while True:
            await asyncio.sleep(self.tick_s)
            now, loop_now = self.clock(), loop.time()
            gap_s = now - before - self.tick_s
            # Suspended time that the event loop's clock, and so the jobs' time-outs, did not count.
            unseen_s = max(0.0, (now - before) - (loop_now - loop_before))
            before, loop_before = now, loop_now
            if gap_s >= LEAST_GAP_S:
                await self._woke(running, gap_s, unseen_s)
            give_up_late(running, now=loop.time(), reason="The job was not done within its {:.0f} s.")

    async def _woke(self, running: RunningWorker, gap_s: float, unseen_s: float) -> None:
        logger.bind(action="woke", gap_s=gap_s).warning(
            "The machine slept or stood still for {}; jobs whose time is over are given up.", duration(gap_s)
        )
        for job in running.in_flight.jobs:
            job.popped_at -= unseen_s
        now = asyncio.get_running_loop().time() + GRACE_S
        give_up_late(running, now=now, reason="The machine slept beyond the job's {:.0f} s.")
        await asyncio.gather(*(_check(slot) for slot in running.pool.ready_slots))


def give_up_late(running: RunningWorker, *, now: float, reason: str) -> None:
    """End every job that is past its ttl and still running.

    Its own time-out uses a clock that may have stopped, or waits for something slow. `reason` is a format string for
    the ttl in seconds.
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
