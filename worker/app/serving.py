"""What serves jobs, connected: the status, and from the first engine on the planner, the intake and the runner.

A module of its own, for `run` imports it while the engines start.
"""

import asyncio
from collections.abc import Sequence

from loguru import logger

from worker.app.context import RunningWorker
from worker.app.live_library import LiveLibrary
from worker.app.worker_setup import Setup
from worker.engine.pool import EnginePool
from worker.engine.slot import EngineSlot
from worker.horde.client import HordeClient
from worker.horde.demand import Demand
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.runner import JobRunner, Services
from worker.scheduling.choice_by_demand import ChoiceByDemand
from worker.scheduling.estimates import Estimates
from worker.scheduling.intake import Intake
from worker.scheduling.offer import Capabilities, CapabilityWatch
from worker.scheduling.planner import Planner
from worker.scheduling.pop_admission import Admission, AdmissionParts, MachineLimits
from worker.scheduling.pop_backoff import PopBackoff
from worker.status.board import StatusBoard, StatusParts
from worker.status.steering import Steering
from worker.workflows.auxiliary_files import all_files


def status_board(
    setup: Setup, horde: HordeClient, pool: EnginePool, estimates: Estimates, stop: asyncio.Event
) -> StatusBoard:
    """The status of the worker, from before its first engine is ready."""
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


async def know_files(setup: Setup) -> None:
    """Look at every file beside the models, which the first pop would wait for: their contents are read once."""
    await asyncio.to_thread(lambda: [setup.models.has(file) for file in all_files()])


def begin(
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
