"""The worker put together: engines up, templates checked against them, jobs in, images out, everything down again."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from loguru import logger

from worker.aio import ungrouped
from worker.app.context import Attendant, Running, attended
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.engine.pool import EnginePool
from worker.engine.process import EngineSettings
from worker.engine.slot import EngineSlot
from worker.errors import ConfigError, WorkerError
from worker.horde.client import HordeClient
from worker.horde.limits import Limits
from worker.horde.messages import PopRequest
from worker.jobs.in_flight import Roster
from worker.jobs.inputs import ModelSource
from worker.jobs.job import JobEvent, JobEvents, Stage
from worker.jobs.journal import Journal, journalled
from worker.jobs.prefetch import Prefetch
from worker.jobs.runner import JobRunner, Services
from worker.jobs.session_stats import Tally
from worker.process.supervisor import RestartPolicy
from worker.safety.checker import SafetyChecker
from worker.scheduling.drain import DRAIN_LIMIT_S, until_drained
from worker.scheduling.estimates import Estimates
from worker.scheduling.estimates.cooldowns import ModelCooldowns
from worker.scheduling.estimates.memory import OutOfMemoryLimits
from worker.scheduling.fault_limiter import FaultBrake, Floors
from worker.scheduling.intake import Intake
from worker.scheduling.offer import Offers, build_offer
from worker.scheduling.planner import Planner, stall_limits_s
from worker.workflows.audit import audit_library, with_any_file
from worker.workflows.library import Library

#: Memory and disk are looked at this often.
READINGS_EVERY_S = 5.0
#: A delivery that takes longer than this may come to nothing.
SLOW_DELIVERY_S = 30.0
#: So long nothing is asked for when the safety checker can't keep up or is down.
SAFETY_PAUSE_S = 1.0


@dataclass(frozen=True)
class Tolerance:
    """How much may go wrong before something is set aside. Makers, where each part keeps its own count."""

    fault_brake: Callable[[], FaultBrake] = FaultBrake
    restarts: Callable[[], RestartPolicy] = RestartPolicy
    cooldowns: Callable[[], ModelCooldowns] = ModelCooldowns
    out_of_memory: Callable[[], OutOfMemoryLimits] = OutOfMemoryLimits
    #: seconds in which a job's engine says nothing before it counts as stalled; None: by what it does
    silence_limit_s: float | None = None


@dataclass(frozen=True)
class Setup:
    """All that a worker is made of."""

    live: LiveConfig
    horde_url: str
    agent: str
    engines: Sequence[EngineSettings]
    models: ModelSource
    library: Library
    safety: SafetyChecker
    events: JobEvents = field(default_factory=JobEvents)
    #: None keeps none: what a killed run leaves open is then given up by the Horde when its time is over
    journal: Journal | None = None
    drain_limit_s: float = DRAIN_LIMIT_S
    #: towards the Horde; a local one may be asked more often than the real one
    limits: Limits = field(default_factory=Limits)
    tolerance: Tolerance = field(default_factory=Tolerance)
    attendants: Sequence[Attendant] = ()
    #: reads the settings again
    reload: Callable[[], None] = lambda: None

    @property
    def config(self) -> BridgeData:
        """The settings in force now; they may be others at the next look."""
        return self.live.data


async def serve(setup: Setup, stop: asyncio.Event, hasten: asyncio.Event | None = None) -> Tally:
    """Serve the Horde until told to stop, and then perhaps to make haste; what this session earned.

    Raises ConfigError before anything starts, EngineStartFailed when no engine comes up, HordeRefused when the
    Horde turns the worker away, WorkerError after faults in a row where the owner wants that. On cancellation the
    jobs under way are faulted first.
    """
    if not setup.safety.may_serve(setup.horde_url):
        raise ConfigError(
            f"Without a safety checker this worker does not serve {setup.horde_url}.",
            remedy="Use `horde-bridge demo`, which brings a Horde of its own.",
        )
    tally = Tally()
    setup.events.subscribe(tally.note)
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
        learned=estimates,
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
            first = await _first_engine(pool, stop)
            if first is None:
                return tally
            running = _begin(setup, horde, pool, estimates, tally=tally, first=first)
            async with attended(running, setup.attendants):
                tally.given_back = await until_drained(
                    running.intake,
                    running.roster,
                    stop=stop,
                    hasten=hasten or asyncio.Event(),
                    limit_s=setup.drain_limit_s,
                )
    return tally


async def _first_engine(pool: EnginePool, stop: asyncio.Event) -> EngineSlot | None:
    """The engine that is ready first; None when the worker is told to stop before."""
    logger.info("Starting {} engine(s); ComfyUI takes a moment.", len(pool.slots))
    ready, told = asyncio.ensure_future(pool.ready()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((ready, told), return_when=asyncio.FIRST_COMPLETED)
        return ready.result() if ready.done() else None
    finally:
        ready.cancel()
        told.cancel()


def _begin(
    setup: Setup, horde: HordeClient, pool: EnginePool, estimates: Estimates, *, tally: Tally, first: EngineSlot
) -> Running:
    """The parts that serve, put together for what the engine can do."""
    library = _live(setup.library, first.object_info)
    roster = Roster()
    brakes = Brakes(setup, roster)
    planner = Planner(lambda: setup.config, setup.models, pool, estimates)
    offers = Offers(library, setup.agent, setup.models.has)
    setup.events.subscribe(roster.note)
    setup.events.subscribe(planner.note)
    setup.events.subscribe(brakes.note)

    intake = Intake(
        horde,
        JobRunner(Services(horde, pool, setup.safety, library, setup.models, setup.events)),
        offer=lambda asking: _offer(setup, offers, planner, asking, most_images=brakes.images_left(asking)),
        room=planner.capacity,
        brake=brakes.pause,
    )
    logger.info("Serving {}; {} model(s) are here so far.", setup.horde_url, len(setup.models.names()))
    return Running(setup.live, horde, pool, intake, setup.models, setup.events, roster, tally)


class Brakes:
    """Everything that may hold the intake back: faults, memory, disk, the safety checker."""

    def __init__(self, setup: Setup, roster: Roster) -> None:
        self._faults = setup.tolerance.fault_brake()
        for ago_s in setup.journal.faults_ago_s() if setup.journal else ():
            self._faults.count(time.monotonic() - ago_s)
        self._roster = roster
        self._floors = Floors()
        self._setup = setup
        self._folder = setup.engines[0].base_directory
        self._readings_at = float("-inf")
        self._shortage = ""

    def note(self, event: JobEvent) -> None:
        if event.stage is Stage.FAULTED:
            if event.job.faulted:
                self._faults.faulted(time.monotonic(), images=event.job.faulted)
            # Of these the Horde heard nothing: no fault of the worker's, but late all the same.
            self._faults.count(time.monotonic(), images=len(event.job.owed))
        elif event.stage is Stage.DONE:
            self._faults.succeeded()

    def pause(self) -> tuple[float, str]:
        """Raises WorkerError where the owner wants an end in place of a pause."""
        now = time.monotonic()
        if now - self._readings_at > READINGS_EVERY_S:
            self._readings_at = now
            self._shortage = self._floors.reason(
                memory_free=psutil.virtual_memory().available, disk_free=shutil.disk_usage(self._folder).free
            )
        if self._shortage:
            return READINGS_EVERY_S, self._shortage
        if hold := self._setup.safety.hold():
            return SAFETY_PAUSE_S, hold
        wait_s, reason = self._faults.pause(now)
        if self._setup.config.exit_on_unhandled_faults and self._faults.is_in_a_row(now):
            raise WorkerError(
                f"{self._faults.in_a_row} jobs in a row were faulted, and exit_on_unhandled_faults is on.",
                remedy="The log says why each was.",
            )
        return wait_s, reason

    def images_left(self, asking: int) -> int:
        """So many images may be asked for besides `asking` pops that are under way and the jobs that have come."""
        failing, now = 0, asyncio.get_running_loop().time()
        under_way = asking * self._setup.config.max_batch
        for job in self._roster.jobs:
            if job.fault or (job.rendered_at is not None and now - job.rendered_at > SLOW_DELIVERY_S):
                failing += len(job.pop.job_ids) - job.delivered
            else:
                under_way += len(job.owed)
        return self._faults.images_left(time.monotonic(), under_way=under_way, failing=failing)


def _live(library: Library, object_info: Mapping[str, Any]) -> Library:
    """The templates that this engine can run; the others are named with what they lack."""
    findings = audit_library(library, with_any_file(object_info))
    for name, sentences in findings.items():
        if sentences:
            logger.bind(action="template_off", template=name).warning(
                "The workflow {} is off: {}", name, "; ".join(sentences)
            )
    return library.without(findings)


def _offer(setup: Setup, offers: Offers, planner: Planner, asking: int, *, most_images: int) -> PopRequest | None:
    if not most_images or (plan := planner.plan(asking)) is None:
        return None
    # Of all models, not of those wished for now: the server takes note of switches only now and then.
    models = tuple(model for name in setup.models.names() if (model := setup.models.model(name)))
    return build_offer(
        setup.config,
        offers.capabilities(setup.config, models),
        models=plan.models,
        max_pixels=plan.max_pixels,
        amount=min(plan.amount, most_images),
        threads=plan.threads,
    )
