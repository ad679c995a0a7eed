"""The parts of a running worker, for background tasks: the status view, the watches over settings and clock."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from loguru import logger

from worker.aio import meanwhile

if TYPE_CHECKING:
    from worker.app.live_library import LiveLibrary
    from worker.config.live import LiveConfig
    from worker.engine.pool import EnginePool
    from worker.horde.client import HordeClient
    from worker.jobs.in_flight import JobsInFlight
    from worker.jobs.inputs import ModelSource
    from worker.jobs.job import JobEvents
    from worker.scheduling.intake import Intake
    from worker.scheduling.pop_admission import Admission
    from worker.status.board import StatusBoard


@dataclass(frozen=True)
class RunningWorker:
    """A worker that serves. Its parts change while it runs; read them anew at each use."""

    live: "LiveConfig"
    horde: "HordeClient"
    pool: "EnginePool"
    intake: "Intake"
    admission: "Admission"
    models: "ModelSource"
    events: "JobEvents"
    in_flight: "JobsInFlight"
    status: "StatusBoard"
    library: "LiveLibrary"


#: Runs beside the jobs until it is cancelled. An exception ends this task only.
BackgroundTask = Callable[[RunningWorker], Coroutine[Any, Any, None]]
#: The same, from before the first engine is ready until the last has ended: terminal, page, notifications.
StatusReader = Callable[["StatusBoard"], Coroutine[Any, Any, None]]


@asynccontextmanager
async def background_tasks(running: RunningWorker, background: Sequence[BackgroundTask]) -> AsyncIterator[None]:
    """Run the tasks while the block lasts."""
    async with meanwhile(*(_guarded(partial(task, running)) for task in background)):
        yield


@asynccontextmanager
async def readers(status: "StatusBoard", reading: Sequence[StatusReader]) -> AsyncIterator[None]:
    """Keep the status up to date and run its readers while the block lasts."""
    async with meanwhile(_guarded(status.run), *(_guarded(partial(reader, status)) for reader in reading)):
        yield


async def _guarded(task: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await task()
    except Exception:  # jobs go on without it
        what = task.func if isinstance(task, partial) else task
        logger.exception("A defect in the worker: {} has ended", getattr(what, "__qualname__", type(what).__qualname__))
