"""What serves jobs, connected: the status, and from the first engine on the planner, the intake and the runner.

A module of its own, for `run` imports it while the engines start.
"""

import asyncio
from collections.abc import Sequence

from loguru import logger

from worker.app.context import RunningWorker
from worker.app.live_library import LiveLibrary
from worker.app.worker_spec import WorkerSpec
from worker.engine.pool import EnginePool
from worker.engine.slot import EngineSlot
from worker.horde.client import HordeClient
from worker.horde.demand import Demand
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.runner import JobRunner
from worker.scheduling.choice_by_demand import ChoiceByDemand
from worker.scheduling.device_limits import MaxPixelsRotation
from worker.scheduling.estimates import Estimates
from worker.scheduling.intake import Intake
from worker.scheduling.offer import Capabilities, CapabilityWatch
from worker.scheduling.planner import Planner
from worker.scheduling.pop_admission import Admission, MachineLimits
from worker.scheduling.pop_backoff import PopBackoff
from worker.status.board import StatusBoard
from worker.status.steering import Steering
from worker.units import counted
from worker.workflows.auxiliary_files import all_files


def status_board(
    spec: WorkerSpec, horde: HordeClient, pool: EnginePool, estimates: Estimates, stop: asyncio.Event
) -> StatusBoard:
    """The status of the worker, from before its first engine is ready."""
    steering = Steering(horde, lambda: spec.config.dreamer_name, stop, spec.reload)
    return StatusBoard(
        live=spec.live,
        horde=horde,
        demand=Demand(horde, every_s=spec.tolerance.demand_look_every_s),
        pool=pool,
        models=spec.models,
        events=spec.events,
        in_flight=JobsInFlight(),
        estimates=estimates,
        pop_backoff=PopBackoff(spec.tolerance.pauses),
        agent=spec.agent,
        steering=steering,
        history_file=spec.history,
    )


async def know_files(spec: WorkerSpec) -> None:
    """Look at every file beside the models, which the first pop would wait for: their contents are read once."""
    await asyncio.to_thread(lambda: [spec.models.has(file) for file in all_files()])


def begin(
    spec: WorkerSpec,
    horde: HordeClient,
    pool: EnginePool,
    estimates: Estimates,
    *,
    status: StatusBoard,
    first: EngineSlot,
) -> RunningWorker:
    """Connect the parts that serve jobs, with the templates that the engine can run."""
    library = LiveLibrary(spec.library)
    library.audit([(first.version, first.object_info)])
    in_flight, pop_backoff, faults = status.in_flight, status.pop_backoff, spec.tolerance.faults()
    for ago_s in spec.journal.faults_ago_s() if spec.journal else ():
        faults.count(1, ago_s=ago_s)
    watch = CapabilityWatch(library, spec.agent, spec.models.has)

    def capabilities() -> Capabilities | None:
        # Of all models, not of those planned for now: the server takes note of switches only now and then.
        models = tuple(model for name in spec.models.names() if (model := spec.models.model(name)))
        return watch.capabilities(spec.config, models)

    choice = ChoiceByDemand(
        lambda: spec.config,
        status.demand,
        models=spec.models,
        threads=lambda: len(pool.offered_slots),
        in_vain_s=lambda: pop_backoff.in_vain_s,
        times=spec.tolerance.choice,
    )

    def choose(names: Sequence[str]) -> Sequence[str]:
        # What can't be served has no part in it, or it might take the place of what can.
        able = capabilities()
        return choice.offered([name for name in names if able is None or name in able.models])

    rotation = MaxPixelsRotation(spec.tolerance.rotation)
    planner = Planner(lambda: spec.config, spec.models, pool, estimates, choice=choose, rotation=rotation)
    admission = Admission(
        config=lambda: spec.config,
        models=spec.models,
        pool=pool,
        planner=planner,
        capabilities=capabilities,
        in_flight=in_flight,
        pop_backoff=pop_backoff,
        faults=faults,
        safety=spec.safety,
        machine=MachineLimits(spec.engines[0].base_directory),
        pause=status.steering.pause_state,
        choice=choice,
    )
    spec.events.subscribe(planner.note)
    spec.events.subscribe(choice.note)
    spec.events.subscribe(faults.note)
    intake = Intake(
        horde,
        JobRunner(horde, pool, spec.safety, library, spec.models, spec.events, estimates.upscale_budget_px),
        admission,
        pop_backoff=pop_backoff,
        in_flight=in_flight,
        events=spec.events,
    )
    logger.info("Serving {}, so far with {}.", spec.horde_url, counted(len(spec.models.names()), "model"))
    status.serving(admission)
    status.steering.on_change(intake.look_again)
    return RunningWorker(
        spec.live, horde, pool, intake, admission, spec.models, spec.events, in_flight, status, library
    )
