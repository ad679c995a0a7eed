"""What a worker is made from: `WorkerSpec`, which `run` serves with, and how many failures it tolerates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.app.context import BackgroundTask, StatusReader
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.engine.process import EngineSettings
from worker.horde.demand import LOOK_EVERY_S
from worker.horde.limits import Limits
from worker.jobs.inputs import ModelSource
from worker.jobs.job import JobEvents
from worker.jobs.journal import Journal
from worker.process.supervisor import RestartPolicy
from worker.safety.checker import SafetyChecker
from worker.scheduling.demand_policy import ChoiceTimes
from worker.scheduling.device_limits import RotationTimes
from worker.scheduling.drain import DRAIN_LIMIT_S
from worker.scheduling.estimates.cooldowns import ModelCooldowns
from worker.scheduling.estimates.memory import OutOfMemoryLimits
from worker.scheduling.fault_limiter import FaultLimiter
from worker.scheduling.pop_backoff import PopPauses
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
class WorkerSpec:
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
