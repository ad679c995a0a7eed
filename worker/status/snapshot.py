"""What a reader sees of the worker at one moment: plain values, made anew for each look.

Moments are seconds since 1970, spans are seconds, sizes are bytes or pixels. No prompt and no picture is in here. Names
from outside (models, features, messages) are bounded in length and can't control a terminal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from operator import add
from typing import TypeVar

#: Of the JSON form; raised when a field changes its meaning or goes.
SCHEMA_VERSION = 1


T = TypeVar("T")


def _sum(one: T, other: T) -> T:
    """Field by field, of two dataclasses of numbers."""
    return type(one)(*map(add, vars(one).values(), vars(other).values()))


class Phase(str, Enum):
    """What the worker as a whole does."""

    #: no engine has been ready yet
    STARTING = "starting"
    SERVING = "serving"
    #: paused by its owner
    PAUSED = "paused"
    #: jobs under way are finished, then it ends
    FINISHING = "finishing"


class Outcome(str, Enum):
    """How a job ended."""

    DONE = "done"
    FAULTED = "faulted"
    #: not done because the worker stopped or the machine slept
    GIVEN_BACK = "given back"


@dataclass(frozen=True)
class StageTimes:
    """Seconds that a job spent in each stage; 0 for one it did not come to. Of several images the longest counts."""

    pop: float = 0.0
    #: pictures, LoRAs and textual inversions; reading the payload
    fetch: float = 0.0
    #: for an engine
    wait: float = 0.0
    render: float = 0.0
    safety: float = 0.0
    encode: float = 0.0
    upload: float = 0.0
    submit: float = 0.0

    def __add__(self, other: "StageTimes") -> "StageTimes":
        return _sum(self, other)


@dataclass(frozen=True)
class JobView:
    id: str
    model: str
    #: txt2img, img2img, inpainting, outpainting, remix
    kind: str
    #: what it asks for beyond a plain picture, as bounded words: lora, controlnet, hires_fix …
    features: tuple[str, ...]
    #: the same in detail, for people: "2 LoRA", "ControlNet canny"
    details: tuple[str, ...]
    width: int
    height: int
    steps: int
    images: int
    sampler: str
    stage: str
    popped_at: float
    #: until when an answer counts
    deadline: float
    #: number of its slot; None: it has none yet
    slot: int | None = None
    #: when an engine began it; None: not yet
    begun_at: float | None = None
    #: when its pictures were made; None: not yet
    rendered_at: float | None = None
    #: steps done, and all, of the node that works
    step: float = 0
    of_steps: float = 0
    #: until its pictures are made; None: not known
    left_s: float | None = None


@dataclass(frozen=True)
class JobRecord:
    id: str
    model: str
    kind: str
    features: tuple[str, ...]
    width: int
    height: int
    steps: int
    images: int
    delivered: int
    kudos: float
    outcome: Outcome
    popped_at: float
    ended_at: float
    #: number of its slot; None: it had none
    slot: int | None = None
    stages: StageTimes = StageTimes()
    #: whose failure it was; empty where there was none
    blame: str = ""
    #: why it failed, and what the owner can do; may be empty
    sentence: str = ""
    remedy: str = ""

    @property
    def seconds(self) -> float:
        """From its pop to its last answer."""
        return self.ended_at - self.popped_at


@dataclass(frozen=True)
class SlotView:
    number: int
    #: as ComfyUI numbers it: "GPU 0", "cpu"
    device: str
    #: working, or what the slot says: starting, ready, resting, stuck, stopped
    state: str
    #: models that are probably in its memory, the last used first
    models: tuple[str, ...] = ()
    #: held in this machine's memory
    memory_bytes: int = 0
    #: starts after a failure
    failures: int = 0
    #: why the last engine was lost; empty if none was
    reason: str = ""
    remedy: str = ""
    job: JobView | None = None


@dataclass(frozen=True)
class Tally:
    """Work done: of a session, an hour, a model, a feature."""

    jobs: int = 0
    faulted: int = 0
    images: int = 0
    kudos: float = 0.0
    #: of engines, rendering
    render_s: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return _sum(self, other)


@dataclass(frozen=True)
class HourOfWork:
    """What one hour brought. A job counts for its model and for each of its features."""

    #: its first second
    begins_at: float
    total: Tally = Tally()
    models: Mapping[str, Tally] = field(default_factory=dict)
    #: "plain" for jobs without any
    features: Mapping[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True)
class DownloadView:
    """A file that is being fetched. Speed and `left_s` are of all downloads together; None: not known."""

    name: str
    done_bytes: int
    #: 0: not known
    total_bytes: int
    bytes_per_s: float = 0.0
    left_s: float | None = None


@dataclass(frozen=True)
class ModelView:
    """A model that the owner wants."""

    name: str
    #: served, waiting (to be fetched), withheld (here, and not offered for now), failed (can't be had or used)
    state: str
    #: why it is not served, or why it was chosen; empty where there is nothing to say
    reason: str = ""


@dataclass(frozen=True)
class PauseView:
    """Why no jobs are asked for."""

    #: owner, maintenance, faults, machine, safety, engines, cards, models, size, horde
    kind: str
    sentence: str
    #: None: nobody knows
    until: float | None = None
    #: `until` is no end but the next try
    tries_again: bool = False
    remedy: str = ""
    since: float = 0.0


@dataclass(frozen=True)
class MessageView:
    """A word from the Horde to the worker's owner."""

    text: str
    at: float


@dataclass(frozen=True)
class Standing:
    """What the Horde thinks of this worker and its owner, as it last said. None: not known."""

    #: whether its last answer came
    reachable: bool = True
    #: when account and worker were last looked up; 0: never
    asked_at: float = 0.0
    account: str = ""
    account_kudos: float | None = None
    #: kudos held back until the account is trusted
    evaluating_kudos: float | None = None
    trusted: bool | None = None
    worker_id: str = ""
    team: str = ""
    #: only the owner's own jobs come
    maintenance: bool | None = None
    #: by a moderator of the Horde
    paused: bool | None = None
    #: this worker's own, over all its time
    worker_kudos: float | None = None
    messages: tuple[MessageView, ...] = ()


@dataclass(frozen=True)
class WarningView:
    """Something that the owner should look at, for as long as it lasts."""

    #: one word that stays the same for the same matter
    topic: str
    sentence: str
    remedy: str
    since: float


@dataclass(frozen=True)
class AdviceView:
    """A change of one setting that might earn more. Figures are estimates of what it might bring alone, at most."""

    #: stays the same for the same matter: a reason of the Horde's, or "model NAME"
    topic: str
    #: the key of bridgeData.yaml, and the value that it should have; for models_to_load the model to add
    key: str
    value: str
    sentence: str
    remedy: str
    jobs_per_hour: float
    #: None: no job was paid yet
    kudos_per_hour: float | None = None
    #: that it would take; None: none, or not known
    disk_bytes: int | None = None
    #: that a model's weights take while it is used, on the card or in the machine; None: none, or not known
    memory_bytes: int | None = None
    #: what the estimate rests on
    basis: str = ""


@dataclass(frozen=True)
class PredictionView:
    """What was predicted for a change that the owner has made, and what came."""

    topic: str
    sentence: str
    since: float
    predicted_per_hour: float
    #: jobs that the change has brought
    came: int


@dataclass(frozen=True)
class LogLine:
    at: float
    level: str
    text: str


@dataclass(frozen=True)
class Machine:
    """What is free on this machine, and how much must be. None: not known."""

    memory_free_bytes: int | None = None
    #: of the disk that the engines write to
    disk_free_bytes: int | None = None
    disk_needed_bytes: int = 0


@dataclass(frozen=True)
class Session:
    """Totals since this run began."""

    total: Tally = Tally()
    given_back: int = 0
    faulted_images: int = 0
    models: Mapping[str, Tally] = field(default_factory=dict)
    #: jobs by whose failure it was
    faults: Mapping[str, int] = field(default_factory=dict)
    #: seconds of all jobs in each stage
    stages: StageTimes = StageTimes()
    #: pops by what they brought: job, nothing, refused, unreachable
    pops: Mapping[str, int] = field(default_factory=dict)
    #: seconds that all pops took
    pop_s: float = 0.0
    uptime_s: float = 0.0
    #: in which an engine stood ready, jobs were asked for and none came
    idle_s: float = 0.0
    #: None: too early to tell
    kudos_per_hour: float | None = None


@dataclass(frozen=True)
class Versions:
    worker: str
    agent: str
    python: str


@dataclass(frozen=True)
class Snapshot:
    """Everything about the worker at one moment."""

    #: this moment
    at: float
    name: str
    phase: Phase
    started_at: float
    versions: Versions
    session: Session
    slots: tuple[SlotView, ...] = ()
    #: all jobs under way, in the order of their pops
    jobs: tuple[JobView, ...] = ()
    #: jobs that ended last, the latest first; `StatusBoard.history` has more
    ended: tuple[JobRecord, ...] = ()
    downloads: tuple[DownloadView, ...] = ()
    models: tuple[ModelView, ...] = ()
    #: how demand chooses among them; empty while all are offered
    choice: str = ""
    #: switches and kinds of jobs that the owner allows and that are not offered, with the reason
    not_offered: Mapping[str, str] = field(default_factory=dict)
    pauses: tuple[PauseView, ...] = ()
    standing: Standing = Standing()
    machine: Machine = Machine()
    #: requests that the Horde passed over at the last pop, by its reasons; empty after one that brought a job
    skipped: Mapping[str, int] = field(default_factory=dict)
    #: the same as a sentence; may be empty
    passed_over: str = ""
    #: since the last job, in which an engine was idle and asked in vain
    in_vain_s: float = 0.0
    warnings: tuple[WarningView, ...] = ()
    #: what would earn more, the best first
    advice: tuple[AdviceView, ...] = ()
    #: what became of advice that was followed
    predictions: tuple[PredictionView, ...] = ()

    @property
    def waiting(self) -> int:
        """Jobs that no engine has started."""
        return sum(job.begun_at is None for job in self.jobs if job.stage in NEEDS_ENGINE)

    @property
    def delivering(self) -> int:
        """Jobs that are being checked, uploaded and submitted."""
        return sum(job.stage == "delivering" for job in self.jobs)


#: Stages in which an engine has yet to do the job, or does it now.
NEEDS_ENGINE = frozenset({"popped", "fetching", "rendering"})
