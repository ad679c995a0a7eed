"""Put a worker together and run it: start engines, check templates against them, serve jobs, stop everything."""

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from worker.aio import ungrouped
from worker.app.context import BackgroundTask, StatusReader, background_tasks, readers
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.engine.pool import EnginePool
from worker.engine.process import EngineSettings
from worker.engine.slot import EngineSlot
from worker.errors import ConfigError, EngineStartFailed
from worker.horde.client import HordeClient
from worker.horde.demand import LOOK_EVERY_S
from worker.horde.limits import Limits
from worker.jobs.inputs import ModelSource
from worker.jobs.job import JobEvents
from worker.jobs.journal import Journal, journalled
from worker.jobs.prefetch import Prefetch
from worker.process.supervisor import RestartPolicy
from worker.safety.checker import SafetyChecker
from worker.scheduling.device_limits import RotationTimes
from worker.scheduling.drain import DRAIN_LIMIT_S, until_drained
from worker.scheduling.estimates import Estimates
from worker.scheduling.estimates.cooldowns import ModelCooldowns
from worker.scheduling.estimates.estimates import stall_limits_s
from worker.scheduling.estimates.memory import OutOfMemoryLimits
from worker.scheduling.fault_limiter import FaultLimiter
from worker.scheduling.model_choice import ChoiceTimes
from worker.scheduling.pop_backoff import PopPauses
from worker.workflows.library import Library

if TYPE_CHECKING:
    from worker.status.session import SessionStats


@dataclass(frozen=True)
class Tolerance:
    """How many failures are tolerated, and the pauses between pops. Factories where each part keeps its own count."""

    faults: Callable[[], FaultLimiter] = FaultLimiter
    restarts: Callable[[], RestartPolicy] = RestartPolicy
    cooldowns: Callable[[], ModelCooldowns] = ModelCooldowns
    out_of_memory: Callable[[], OutOfMemoryLimits] = OutOfMemoryLimits
    #: seconds without a sign of life after which an engine with a job counts as stalled; None: learned by phase
    silence_limit_s: float | None = None
    #: of the sizes that pops ask for in turn
    rotation: RotationTimes = field(default_factory=RotationTimes)
    #: of the choice of models by demand, and between two looks at what is asked for
    choice: ChoiceTimes = field(default_factory=ChoiceTimes)
    demand_look_every_s: float = LOOK_EVERY_S
    #: between two pops
    pauses: PopPauses = field(default_factory=PopPauses)


@dataclass(frozen=True)
class Setup:
    """What a worker is made from."""

    live: LiveConfig
    horde_url: str
    agent: str
    engines: Sequence[EngineSettings]
    models: ModelSource
    library: Library
    safety: SafetyChecker
    events: JobEvents = field(default_factory=JobEvents)
    #: None: no journal; the Horde then gives up what a killed run left open when its ttl is over
    journal: Journal | None = None
    #: keeps jobs and sums over restarts; None: they end with the run
    history: Path | None = None
    drain_limit_s: float = DRAIN_LIMIT_S
    #: of requests to the Horde; a local one takes more than the real one
    limits: Limits = field(default_factory=Limits)
    tolerance: Tolerance = field(default_factory=Tolerance)
    background: Sequence[BackgroundTask] = ()
    #: what shows the status, from before the first engine is ready until the last has ended
    readers: Sequence[StatusReader] = ()
    #: told why no engine starts, takes another version of ComfyUI; its settings, none where there is no other
    fall_back: Callable[[str], Sequence[EngineSettings]] = lambda _: ()
    #: makes the worker read its settings again
    reload: Callable[[], None] = lambda: None

    @property
    def config(self) -> BridgeData:
        """The settings in force now; they can change at any time."""
        return self.live.data


async def serve(setup: Setup, stop: asyncio.Event, hasten: asyncio.Event | None = None) -> "SessionStats":
    """Serve the Horde until `stop` is set; return the session's counts. `hasten` shortens the drain.

    Raises ConfigError before anything starts, EngineStartFailed when no engine comes up, HordeRefused when the
    Horde turns the worker away, WorkerError after faults in a row where the owner wants that. On cancellation the
    jobs under way are faulted first.
    """
    if not setup.safety.may_serve(setup.horde_url):
        raise ConfigError(
            f"Without a safety checker this worker does not serve {setup.horde_url}.",
            remedy="Use `horde-bridge demo`, which brings a Horde of its own.",
        )
    api_key = setup.config.api_key.get_secret_value()
    estimates = Estimates(
        lambda: stall_limits_s(setup.config),
        extra_slow=lambda: setup.config.extra_slow_worker,
        cooldowns=setup.tolerance.cooldowns(),
        out_of_memory=setup.tolerance.out_of_memory(),
    )
    setup.events.subscribe(estimates.note)
    pool = EnginePool(
        setup.engines,
        restarts=setup.tolerance.restarts,
        estimates=estimates,
        silence_limit_s=setup.tolerance.silence_limit_s,
    )
    with ungrouped():
        async with (
            setup.safety.running(),
            contextlib.aclosing(HordeClient(setup.horde_url, api_key, agent=setup.agent, limits=setup.limits)) as horde,
            journalled(setup.journal, setup.events, horde),
            setup.models.running(),
            Prefetch(setup.models, pool).running(setup.events),
            pool.running(),
        ):
            # Engines take seconds to start: what serves them is imported and connected meanwhile.
            await asyncio.to_thread(importlib.import_module, "worker.app.serving")
            from worker.app.live_library import keep_node_classes  # noqa: PLC0415 - imported by the line above
            from worker.app.serving import begin, status_board  # noqa: PLC0415 - the same

            status = status_board(setup, horde, pool, estimates, stop)
            await status.restore()
            # The readers show the end of the engines, too.
            async with readers(status, setup.readers), contextlib.aclosing(pool):
                first = await _first_engine(pool, stop, setup.fall_back)
                if first is None:
                    return status.stats
                running = begin(setup, horde, pool, estimates, status=status, first=first)
                background = (*setup.background, lambda _: keep_node_classes(first))
                async with background_tasks(running, background):
                    status.stats.given_back = await until_drained(
                        running.intake,
                        running.in_flight,
                        stop=stop,
                        hasten=hasten or asyncio.Event(),
                        limit_s=setup.drain_limit_s,
                    )
    return status.stats


async def _first_engine(
    pool: EnginePool, stop: asyncio.Event, fall_back: Callable[[str], Sequence[EngineSettings]]
) -> EngineSlot | None:
    """The first engine that is ready; None if the worker is stopped before. Where none starts, those to fall back to
    are tried.
    """
    logger.info("Starting {} engine(s); ComfyUI takes a moment.", len(pool.slots))
    while True:
        ready, told = asyncio.ensure_future(pool.ready()), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((ready, told), return_when=asyncio.FIRST_COMPLETED)
            return ready.result() if ready.done() else None
        except EngineStartFailed as error:
            others = await asyncio.to_thread(fall_back, error.message)
            if not others or not pool.give_settings(others):
                raise
            pool.forgive()
        finally:
            ready.cancel()
            told.cancel()
