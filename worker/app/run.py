"""Put a worker together and run it: start engines, check templates against them, serve jobs, stop everything."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from worker.aio import ungrouped
from worker.app.context import BackgroundTask, RunningWorker, StatusReader, background_tasks, readers
from worker.app.live_library import LiveLibrary, keep_node_classes
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.engine.pool import EnginePool
from worker.engine.process import EngineSettings
from worker.engine.slot import EngineSlot
from worker.errors import ConfigError, EngineStartFailed
from worker.horde.client import HordeClient
from worker.horde.demand import LOOK_EVERY_S, Demand
from worker.horde.limits import Limits
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.inputs import ModelSource
from worker.jobs.job import JobEvents
from worker.jobs.journal import Journal, journalled
from worker.jobs.prefetch import Prefetch
from worker.jobs.runner import JobRunner, Services
from worker.process.supervisor import RestartPolicy
from worker.safety.checker import SafetyChecker
from worker.scheduling.choice_by_demand import ChoiceByDemand
from worker.scheduling.device_limits import RotationTimes
from worker.scheduling.drain import DRAIN_LIMIT_S, until_drained
from worker.scheduling.estimates import Estimates
from worker.scheduling.estimates.cooldowns import ModelCooldowns
from worker.scheduling.estimates.memory import OutOfMemoryLimits
from worker.scheduling.fault_limiter import FaultLimiter
from worker.scheduling.intake import Intake
from worker.scheduling.model_choice import ChoiceTimes
from worker.scheduling.offer import Capabilities, CapabilityWatch
from worker.scheduling.planner import Planner, stall_limits_s
from worker.scheduling.pop_backoff import PopBackoff, PopPauses
from worker.scheduling.pop_or_wait import Admission, AdmissionParts, MachineLimits
from worker.status.board import StatusBoard, StatusParts
from worker.status.session import SessionStats
from worker.status.steering import Steering
from worker.workflows.library import Library


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


async def serve(setup: Setup, stop: asyncio.Event, hasten: asyncio.Event | None = None) -> SessionStats:
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
        ):
            status = _status(setup, horde, pool, estimates, stop)
            await status.restore()
            async with readers(status, setup.readers), pool.running():
                first = await _first_engine(pool, stop, setup.fall_back)
                if first is None:
                    return status.stats
                await keep_node_classes(first)
                running = _begin(setup, horde, pool, estimates, status=status, first=first)
                async with background_tasks(running, setup.background):
                    status.stats.given_back = await until_drained(
                        running.intake,
                        running.in_flight,
                        stop=stop,
                        hasten=hasten or asyncio.Event(),
                        limit_s=setup.drain_limit_s,
                    )
    return status.stats


def _status(
    setup: Setup, horde: HordeClient, pool: EnginePool, estimates: Estimates, stop: asyncio.Event
) -> StatusBoard:
    steering = Steering(horde, lambda: setup.config.dreamer_name, stop, setup.reload)
    return StatusBoard(
        StatusParts(
            live=setup.live,
            horde=horde,
            demand=Demand(horde, every_s=setup.tolerance.demand_look_every_s),
            pool=pool,
            models=setup.models,
            events=setup.events,
            in_flight=JobsInFlight(),
            estimates=estimates,
            agent=setup.agent,
            steering=steering,
            history=setup.history,
        )
    )


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


def _begin(
    setup: Setup, horde: HordeClient, pool: EnginePool, estimates: Estimates, *, status: StatusBoard, first: EngineSlot
) -> RunningWorker:
    """Connect the parts that serve jobs, with the templates that the engine can run."""
    library = LiveLibrary(setup.library)
    library.audit([(first.version, first.object_info)])
    in_flight, faults = status.in_flight, setup.tolerance.faults()
    for ago_s in setup.journal.faults_ago_s() if setup.journal else ():
        faults.count(1, ago_s=ago_s)
    watch = CapabilityWatch(library, setup.agent, setup.models.has)
    pop_backoff = PopBackoff(setup.tolerance.pauses)

    def capabilities() -> Capabilities | None:
        # Of all models, not of those planned for now: the server takes note of switches only now and then.
        models = tuple(model for name in setup.models.names() if (model := setup.models.model(name)))
        return watch.capabilities(setup.config, models)

    choice = ChoiceByDemand(
        lambda: setup.config,
        status.demand,
        models=setup.models,
        threads=lambda: len(pool.offered_slots),
        in_vain_s=lambda: pop_backoff.in_vain_s,
        times=setup.tolerance.choice,
    )

    def choose(names: Sequence[str]) -> Sequence[str]:
        # What can't be served has no part in it, or it might take the place of what can.
        able = capabilities()
        return choice.offered([name for name in names if able is None or name in able.models])

    planner = Planner(
        lambda: setup.config, setup.models, pool, estimates, choice=choose, rotation=setup.tolerance.rotation
    )
    admission = Admission(
        AdmissionParts(
            config=lambda: setup.config,
            models=setup.models,
            pool=pool,
            planner=planner,
            capabilities=capabilities,
            in_flight=in_flight,
            pop_backoff=pop_backoff,
            faults=faults,
            safety=setup.safety,
            machine=MachineLimits(setup.engines[0].base_directory),
            pause=status.steering.pause_state,
            choice=choice,
        )
    )
    setup.events.subscribe(planner.note)
    setup.events.subscribe(choice.note)
    setup.events.subscribe(faults.note)
    intake = Intake(
        horde,
        JobRunner(
            Services(horde, pool, setup.safety, library, setup.models, setup.events, estimates.upscale_budget_px)
        ),
        admission,
        pop_backoff=pop_backoff,
        in_flight=in_flight,
        events=setup.events,
    )
    logger.info("Serving {}; {} model(s) are here so far.", setup.horde_url, len(setup.models.names()))
    status.serving(admission)
    status.steering.on_change(intake.look_again)
    return RunningWorker(
        setup.live, horde, pool, intake, admission, setup.models, setup.events, in_flight, status, library
    )
