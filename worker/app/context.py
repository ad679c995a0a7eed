"""The parts of a worker at work, for those who attend to it beside its jobs: console, watch over settings and clock."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from loguru import logger

from worker.config.live import LiveConfig
from worker.engine.pool import EnginePool
from worker.horde.client import HordeClient
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.inputs import ModelSource
from worker.jobs.job import JobEvents
from worker.jobs.session_stats import SessionStats
from worker.scheduling.admission import Admission
from worker.scheduling.intake import Intake


@dataclass(frozen=True)
class Running:
    """A worker that serves."""

    live: LiveConfig
    horde: HordeClient
    pool: EnginePool
    intake: Intake
    admission: Admission
    models: ModelSource
    events: JobEvents
    in_flight: JobsInFlight
    stats: SessionStats


#: Runs beside the jobs until it is cancelled. What it raises ends only itself.
Attendant = Callable[[Running], Coroutine[Any, Any, None]]


@asynccontextmanager
async def attended(running: Running, attendants: Sequence[Attendant]) -> AsyncIterator[None]:
    """Everyone attends while the block lasts."""
    tasks = [asyncio.ensure_future(_alone(attendant, running)) for attendant in attendants]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _alone(attendant: Attendant, running: Running) -> None:
    try:
        await attendant(running)
    except Exception:  # jobs must go on, whatever becomes of what is shown about them
        logger.exception("A defect in the worker: {} has ended", getattr(attendant, "__qualname__", attendant))
