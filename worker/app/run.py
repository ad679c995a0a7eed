"""Put a worker together and run it: start engines, check templates against them, serve jobs, stop everything."""

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from loguru import logger

from worker.aio import meanwhile, ungrouped
from worker.app.context import background_tasks, readers
from worker.app.worker_spec import WorkerSpec
from worker.engine.pool import EnginePool
from worker.engine.process import EngineSettings
from worker.engine.slot import EngineSlot
from worker.errors import ConfigError, EngineStartFailed
from worker.horde.client import HordeClient
from worker.jobs.journal import journalled
from worker.jobs.prefetch import Prefetch
from worker.scheduling.drain import until_drained
from worker.scheduling.estimates import Estimates
from worker.scheduling.estimates.estimates import stall_limits_s
from worker.units import counted

if TYPE_CHECKING:
    from worker.status.session import SessionStats


async def serve(spec: WorkerSpec, stop: asyncio.Event, hasten: asyncio.Event | None = None) -> "SessionStats":
    """Serve the Horde until `stop` is set; return the session's counts. `hasten` shortens the drain.

    Raises ConfigError before anything starts, EngineStartFailed when no engine comes up, HordeRefused when the
    Horde turns the worker away, WorkerError after faults in a row where the owner wants that. On cancellation the
    jobs under way are faulted first.
    """
    if not spec.safety.may_serve(spec.horde_url):
        raise ConfigError(
            f"Without a safety checker this worker does not serve {spec.horde_url}.",
            remedy="Use `horde-bridge demo`, which brings a Horde of its own.",
        )
    api_key = spec.config.api_key.get_secret_value()
    estimates = Estimates(
        lambda: stall_limits_s(spec.config),
        extra_slow=lambda: spec.config.extra_slow_worker,
        cooldowns=spec.tolerance.cooldowns(),
        out_of_memory=spec.tolerance.out_of_memory(),
    )
    spec.events.subscribe(estimates.note)
    pool = EnginePool(
        spec.engines,
        restarts=spec.tolerance.restarts,
        estimates=estimates,
        silence_limit_s=spec.tolerance.silence_limit_s,
    )
    with ungrouped():
        async with (
            spec.safety.running(),
            contextlib.aclosing(HordeClient(spec.horde_url, api_key, agent=spec.agent, limits=spec.limits)) as horde,
            journalled(spec.journal, spec.events, horde),
            spec.models.running(),
            Prefetch(spec.models, pool).running(spec.events),
            pool.running(),
        ):
            # Engines take seconds to start: what serves them is imported and connected meanwhile.
            await asyncio.to_thread(importlib.import_module, "worker.app.serving")
            from worker.app.live_library import keep_node_classes  # noqa: PLC0415 - imported by the line above
            from worker.app.serving import begin, know_files, status_board  # noqa: PLC0415 - the same

            status = status_board(spec, horde, pool, estimates, stop)
            await status.restore()
            # The readers show the end of the engines, too.
            reading = (*spec.readers, lambda _: know_files(spec))
            async with readers(status, reading), contextlib.aclosing(pool):
                first = await _first_engine(pool, stop, spec.fall_back)
                if first is None:
                    return status.stats
                running = begin(spec, horde, pool, estimates, status=status, first=first)
                background = (*spec.background, lambda _: keep_node_classes(first))
                async with background_tasks(running, background):
                    status.stats.given_back = await until_drained(
                        running.intake,
                        running.in_flight,
                        stop=stop,
                        hasten=hasten or asyncio.Event(),
                        limit_s=spec.drain_limit_s,
                    )
    return status.stats


async def _first_engine(
    pool: EnginePool, stop: asyncio.Event, fall_back: Callable[[str], Sequence[EngineSettings]]
) -> EngineSlot | None:
    """The first engine that is ready; None if the worker is stopped before. Where none starts, those to fall back to
    are tried.
    """
    logger.info("Starting {}; ComfyUI takes a moment.", counted(len(pool.slots), "engine"))
    while True:
        try:
            async with meanwhile(pool.ready(), stop.wait()) as (ready, told):
                await asyncio.wait((ready, told), return_when=asyncio.FIRST_COMPLETED)
                return ready.result() if ready.done() else None
        except EngineStartFailed as error:
            others = await asyncio.to_thread(fall_back, error.message)
            if not others or not pool.give_settings(others):
                raise
            pool.forgive()
