"""A job: what was popped, its deadline, and which of its images still need an answer."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, ParamSpec

from loguru import logger

from worker.after_fault import after_fault
from worker.clock import monotonic
from worker.errors import HordeError, WorkerError
from worker.horde.messages import GenMetadata, PopRequest, PopResponse
from worker.jobs.rendering import Sampling, Upscaling
from worker.workflows import coerce
from worker.workflows.request import RenderRequest

P = ParamSpec("P")

#: Seconds before the ttl ends in which an answer must have arrived: the server measures by its own clock.
TTL_MARGIN_S = 5.0


class Stage(str, Enum):
    """What a job's coroutine does now."""

    POPPED = "popped"
    FETCHING = "fetching"
    RENDERING = "rendering"
    DELIVERING = "delivering"
    #: what did not come is reported to the Horde
    REPORTING = "reporting"
    DONE = "done"
    FAULTED = "faulted"


#: Stages in which an engine has yet to do the job, or does it now.
BEFORE_RENDERED = frozenset({Stage.POPPED, Stage.FETCHING, Stage.RENDERING})


@dataclass(eq=False)
class Job:
    """One pop. Times are seconds on the event loop's clock."""

    pop: PopResponse
    #: when it was asked for: its time to live counts from then, at worst
    popped_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    #: when it came
    received_at: float = field(default_factory=monotonic)
    stage: Stage = Stage.POPPED
    #: ids without an answer, in the order of the images
    owed: list[str] = field(default_factory=list)
    #: gen_metadata for every image
    metadata: list[GenMetadata] = field(default_factory=list)
    #: the part of what the Horde names as reward that it books
    credited: float = 1.0
    #: booked
    kudos: float = 0.0
    #: the payload as a request, once it was read
    request: RenderRequest | None = None
    #: value and maximum of the node that works
    progress: tuple[float, float] = (0, 0)
    #: of the last try
    sampling: Sampling = field(default_factory=Sampling)
    upscaling: Upscaling = field(default_factory=Upscaling)
    #: number of the engine slot, once it has one
    slot: int | None = None
    #: when an engine started it
    started_at: float | None = None
    rendered_at: float | None = None
    #: its pictures are of a single colour each
    flat: bool = False
    ended_at: float | None = None
    #: seconds of the parts of its delivery: safety, encode, upload, submit
    delivery_s: dict[str, float] = field(default_factory=dict)
    #: images that the Horde accepted
    delivered: int = 0
    #: images reported as faulted
    faulted: int = 0
    #: of these, images that the Horde does not know: it counts no fault for them
    unknown: int = 0
    #: why, if any was
    fault: str = ""
    #: the error behind `fault`, where there is one
    error: WorkerError | None = None
    #: why it is ended before its time, if it is: for its coroutine, which is cancelled
    dropped: str = ""

    def __post_init__(self) -> None:
        self.owed = list(self.pop.job_ids)

    @property
    def id(self) -> str:
        """The id of the first image."""
        return self.pop.job_ids[0]

    @property
    def name(self) -> str:
        """Short enough for a line on a terminal."""
        return self.id[:8]

    @property
    def needs_engine(self) -> bool:
        return self.stage in BEFORE_RENDERED

    @property
    def is_lost(self) -> bool:
        """It has failed, or is being ended, and only that is still to be reported."""
        return bool(self.fault or self.dropped)

    @property
    def brakes(self) -> bool:
        """Whether its fault counts towards the pause after faults in a row: not where its requester is to blame."""
        return self.error is None or after_fault(self.error).brakes

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Note the seconds of the block as those of a part of the delivery; of several images the longest counts."""
        began = monotonic()
        try:
            yield
        finally:
            self.delivery_s[part] = max(self.delivery_s.get(part, 0.0), monotonic() - began)

    def fail(self, error: WorkerError) -> None:
        """Note why its images will not come."""
        self.error, self.fault = error, str(error)

    @property
    def counted_faults(self) -> int:
        """Reported images that the Horde counts towards its limit of faults."""
        return self.faulted - self.unknown

    @property
    def prompt(self) -> str:
        """The requester's prompt, with the negative prompt after `###`."""
        return coerce.text(self.pop.payload.get("prompt"))

    @property
    def censors_nsfw(self) -> bool:
        """Whether NSFW images are to be censored."""
        return coerce.flag(self.pop.payload.get("use_nsfw_censor"))

    @property
    def deadline(self) -> float:
        """Loop time until which an answer counts."""
        return self.popped_at + max(self.pop.ttl - TTL_MARGIN_S, self.pop.ttl / 2)


@dataclass(frozen=True)
class JobEvent:
    """A job entered a stage."""

    job: Job
    stage: Stage


@dataclass(frozen=True)
class PopEvent:
    """A pop came back."""

    request: PopRequest
    #: None: it was turned down, or got no answer
    answer: PopResponse | None
    error: HordeError | None = None
    #: seconds from the request to the answer
    took_s: float = 0.0
    #: an engine had nothing to do; else it was for the queue
    for_idle_engine: bool = True


class Topic(Generic[P]):
    """Tells its subscribers, in the order in which they subscribed."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[P, None]] = []

    def subscribe(self, subscriber: Callable[P, None]) -> None:
        self._subscribers.append(subscriber)

    def publish(self, *args: P.args, **kwargs: P.kwargs) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(*args, **kwargs)
            except Exception:  # a subscriber must not cost a job its answer
                logger.exception("A defect in the worker: a listener to job events failed")


class JobEvents(Topic[[JobEvent]]):
    """Publishes the stages that jobs enter, and what else they do on topics of its own."""

    def __init__(self) -> None:
        super().__init__()
        #: a job and one of its ids that has its answer, or needs none any more
        self.answers: Topic[[Job, str]] = Topic()
        #: a job and a picture of it, checked and encoded as the Horde gets it
        self.pictures: Topic[[Job, bytes]] = Topic()
        #: what the Horde answers, with or without a job
        self.pops: Topic[[PopEvent]] = Topic()

    def enter(self, job: Job, stage: Stage) -> None:
        """Move a job to a stage and publish it."""
        job.stage = stage
        self.publish(JobEvent(job, stage))

    def answer(self, job: Job, job_id: str) -> None:
        """One image has its answer, or the Horde wants none any more."""
        job.owed.remove(job_id)
        self.answers.publish(job, job_id)
