"""A status board over parts that stand still, and jobs that run through its events."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.engine.slot import SlotState
from worker.errors import WorkerError
from worker.horde.demand import Demand
from worker.horde.messages import PopRequest, PopResponse, UserDetails, WorkerDetails
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.job import Job, JobEvents, PopEvent, Stage
from worker.models.progress import ModelsState
from worker.scheduling.owner_pause import OwnerPause
from worker.scheduling.pop_backoff import PopBackoff
from worker.scheduling.wait_log import WaitKind, WaitReason
from worker.status.board import StatusBoard
from worker.status.steering import Steering

NOON = 1_800_000_000.0
REQUEST = PopRequest(
    name="me", priority_usernames=[], nsfw=False, models=["Deliberate"], bridge_agent="a", threads=1,
    require_upfront_kudos=False, amount=1, extra_slow_worker=False, max_pixels=512 * 512, blacklist=[],
    allow_img2img=False, allow_painting=False, allow_unsafe_ipaddr=False, allow_post_processing=False,
    allow_controlnet=False, allow_sdxl_controlnet=False, allow_lora=False, limit_max_steps=False,
)  # fmt: skip


class Clock:
    """Both clocks of a board, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return NOON + self.now


class Horde:
    """An account and a worker that can be switched."""

    def __init__(self) -> None:
        self.user = UserDetails(username="me#1", kudos=500.0, trusted=True)
        self.worker = WorkerDetails(id="w1", name="me")
        self.switched: list[bool] = []

    async def find_user(self) -> UserDetails:
        return self.user

    async def worker_by_name(self, _: str) -> WorkerDetails:
        return self.worker

    async def set_maintenance(self, _: str, on: bool, message: str = "") -> None:
        self.switched.append(on)


class Admission:
    """Why nothing is popped, as a test says."""

    def __init__(self) -> None:
        self.reasons: tuple[WaitReason, ...] = ()
        self.planner = SimpleNamespace(withdrawn={})
        self.choice: Any = None
        self.not_offered: dict[str, str] = {}
        self.machine = SimpleNamespace(memory_free=8 * 1024**3, disk_free=5 * 1024**3, disk=1024**3)

    def since(self, _: WaitReason) -> float:
        return 90.0


def slot(number: int = 1, state: SlotState = SlotState.READY, **more: Any) -> Any:
    values = {"reason": None, "restarts": 0, "models": (), "process": None, **more}
    return SimpleNamespace(number=number, state=state, settings=SimpleNamespace(device="GPU 0"), **values)


@dataclass
class Rig:
    """Use `ends` to let jobs run through the board."""

    clock: Clock = field(default_factory=Clock)
    events: JobEvents = field(default_factory=JobEvents)
    in_flight: JobsInFlight = field(default_factory=JobsInFlight)
    horde: Horde = field(default_factory=Horde)
    slots: list[Any] = field(default_factory=lambda: [slot()])
    models: ModelsState = field(default_factory=lambda: ModelsState(("Deliberate",)))
    admission: Any = field(default_factory=Admission)
    pop_backoff: PopBackoff = field(default_factory=PopBackoff)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reloaded: list[bool] = field(default_factory=list)
    config: BridgeData = field(default_factory=lambda: BridgeData(dreamer_name="me"))

    def __post_init__(self) -> None:
        horde: Any = self.horde
        steering = Steering(
            horde, lambda: "me", self.stop, lambda: self.reloaded.append(True), OwnerPause(self.clock.wall),
            wall=self.clock.wall,
        )  # fmt: skip
        parts: Any = SimpleNamespace(slots=self.slots)
        models: Any = SimpleNamespace(
            state=lambda: self.models, known_size=lambda _: None, names=lambda: (), fetchable=lambda: ()
        )
        estimates: Any = SimpleNamespace(left_s=lambda _: 3.0)
        self.board = StatusBoard(
            LiveConfig(self.config), horde, Demand(horde), parts, models, self.events, self.in_flight, estimates,
            self.pop_backoff, "agent:1", steering, clock=self.clock, wall=self.clock.wall,
        )  # fmt: skip

    def serve(self) -> "Rig":
        self.board.serving(self.admission)
        return self

    def job(self, *ids: str, model: str = "Deliberate", source: str | None = None, **payload: Any) -> Job:
        content = {"width": 512, "height": 512, "ddim_steps": 20, **payload}
        pop = PopResponse(ids=list(ids) or ["job-1"], model=model, payload=content, ttl=150, source_image=source)
        return Job(pop, popped_at=self.clock.now - 1.0, received_at=self.clock.now)

    def pops(self, answer: PopResponse | None = None, error: Any = None) -> None:
        self.events.pops.publish(PopEvent(REQUEST, answer, error, took_s=0.5))

    def ends(
        self, job: Job, *, kudos: float = 10.0, error: WorkerError | None = None, dropped: str = "", render_s: float = 4
    ) -> Job:
        """Run a job through all stages, some seconds each."""
        self.events.enter(job, Stage.POPPED)
        self.events.enter(job, Stage.FETCHING)
        self.clock.now += 1.0
        self.events.enter(job, Stage.RENDERING)
        self.clock.now += 2.0
        job.slot, job.started_at = 1, self.clock.now
        self.clock.now += render_s
        if error or dropped:
            job.fault = dropped
            if error:
                job.fail(error)
            job.faulted = len(job.pop.job_ids)
        else:
            job.rendered_at, job.kudos, job.delivered = self.clock.now, kudos, len(job.pop.job_ids)
            self.events.enter(job, Stage.DELIVERING)
            job.delivery_s = {"safety": 0.5, "upload": 0.25}
        self.clock.now += 1.0
        job.ended_at = self.clock.now
        self.events.enter(job, Stage.FAULTED if job.fault else Stage.DONE)
        return job


PAUSED = WaitReason(WaitKind.FAULTS, "3 jobs in a row were faulted.", 160.0, remedy="The log says why each was.")
