"""The parts of a running worker, for background tasks: the status view, the watches over settings and clock."""

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
from worker.scheduling.intake import Intake
from worker.scheduling.pop_or_wait import Admission


@dataclass(frozen=True)
class RunningWorker:
    """A worker that serves. Its parts change while it runs; read them anew at each use."""

    live: LiveConfig
    horde: HordeClient
    pool: EnginePool
    intake: Intake
    admission: Admission
    models: ModelSource
    events: JobEvents
    in_flight: JobsInFlight
    stats: SessionStats


#: Runs beside the jobs until it is cancelled. An exception ends this task only.
BackgroundTask = Callable[[RunningWorker], Coroutine[Any, Any, None]]


@asynccontextmanager
async def background_tasks(running: RunningWorker, background: Sequence[BackgroundTask]) -> AsyncIterator[None]:
    """Run the tasks while the block lasts."""
    running_tasks = [asyncio.ensure_future(_guarded(task, running)) for task in background]
    try:
        yield
    finally:
        for each in running_tasks:
            each.cancel()
        await asyncio.gather(*running_tasks, return_exceptions=True)


async def _guarded(task: BackgroundTask, running: RunningWorker) -> None:
    try:
        await task(running)
    except Exception:  # jobs go on without it
        logger.exception("A defect in the worker: {} has ended", getattr(task, "__qualname__", task))
