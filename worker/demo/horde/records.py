"""What the embedded Horde remembers: users, workers, requests, jobs, and what became of each.

Plain records without behaviour; `worker.demo.horde.state` is their only writer.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from worker.images import MOST_RENDERED_PIXELS, RawImage
from worker.untrusted.pictures import open_picture


class Refused(Exception):
    """The server's answer is a no: HTTP `status`, the API's return code, and field errors where a schema was broken."""

    def __init__(self, status: int, rc: str, message: str, *, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.rc = rc
        self.errors = dict(errors or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON answer; keys without a value are absent."""
        answer = {"errors": self.errors, "message": str(self), "rc": self.rc}
        return {key: value for key, value in answer.items() if value}


class Outcome(str, Enum):
    """What became of one popped job."""

    OPEN = "open"
    OK = "ok"
    #: the worker reported that it could not do it
    FAULTED = "faulted"
    #: its time to live passed and a sweep took it away
    ABORTED = "aborted"


class Baseline(str, Enum):
    """Families of image models, as the model reference spells them."""

    SD1 = "stable diffusion 1"
    SD2 = "stable diffusion 2"
    SDXL = "stable_diffusion_xl"
    CASCADE = "stable_cascade"
    FLUX = "flux_1"
    QWEN = "qwen_image"
    Z_IMAGE = "z_image_turbo"


@dataclass(frozen=True)
class ModelFacts:
    """What the server knows of a model."""

    baseline: Baseline
    inpainting: bool = False
    #: half of their sum is the most a worker with `limit_max_steps` is given
    min_steps: int = 20
    max_steps: int = 40


@dataclass
class User:
    """An account. Trusted and customizer by default: an untrusted instant worker would silently be paused."""

    alias: str
    id: int
    api_key: str
    kudos: float = 0.0
    trusted: bool = True
    customizer: bool = True
    moderator: bool = False
    special: bool = False
    flagged: bool = False
    #: most images this user may have waiting
    concurrency: int = 100_000
    #: images waiting now
    waiting: int = 0
    worker_ids: list[str] = field(default_factory=list)

    @property
    def username(self) -> str:
        return f"{self.alias}#{self.id}"


@dataclass(frozen=True)
class ImageRequest:
    """What a requester asks. `params` is the API's `params` object; absent keys get the server's defaults."""

    prompt: str
    models: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    nsfw: bool = True
    censor_nsfw: bool = False
    #: encoded pictures, in any format Pillow reads
    source_image: bytes | None = None
    source_mask: bytes | None = None
    source_processing: str = "img2img"
    #: (encoded picture, strength)
    extra_source_images: tuple[tuple[bytes, float], ...] = ()
    r2: bool = True
    trusted_workers: bool = False
    slow_workers: bool = True
    extra_slow_workers: bool = False
    disable_batching: bool = False
    #: ids of workers that alone may (or, as a blacklist, may not) serve it
    workers: tuple[str, ...] = ()
    worker_blacklist: bool = False


@dataclass
class WorkerRecord:
    """A worker, created by its first pop. `switches` is its last stored pop."""

    id: str
    name: str
    owner: User
    created: float
    last_seen: float
    switches: dict[str, Any]
    stored_at: float
    maintenance: bool = False
    maintenance_message: str = ""
    info: str | None = None
    #: each {"id", "message", "origin", "expiry"} with the moment after which it is not shown
    messages: list[tuple[float, dict[str, str]]] = field(default_factory=list)
    #: moments of the faults and overruns within the last hour
    faults: deque[float] = field(default_factory=deque)
    uncompleted: int = 0
    fulfilled: int = 0
    kudos: float = 0.0
    megapixelsteps: float = 0.0
    #: speeds of the last jobs in megapixelsteps per second
    speeds: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    @property
    def speed(self) -> float:
        """Megapixelsteps per second; a new worker counts as 1."""
        return sum(self.speeds) / len(self.speeds) if self.speeds else 1.0


@dataclass
class Job:
    """One image of a request in the hands of one worker."""

    id: str
    request: "QueuedRequest"
    worker: WorkerRecord
    model: str
    seed: int
    popped_at: float
    ttl_s: int
    outcome: Outcome = Outcome.OPEN
    settled_at: float = 0.0
    #: text given instead of an uploaded object
    inline: str | None = None
    submitted_seed: int = 0
    gen_metadata: list[dict[str, Any]] = field(default_factory=list)
    reward: float = 0.0

    @property
    def censored(self) -> bool:
        """Told by the metadata alone; the states and the old flag mean nothing to the server."""
        return any(entry["type"] == "censorship" for entry in self.gen_metadata)


@dataclass
class QueuedRequest:
    """A request on the server: how many images wait, and the jobs handed out for it."""

    id: str
    asked: ImageRequest
    user: User
    #: `asked.params` with the server's defaults filled in
    params: dict[str, Any]
    images: int
    waiting: int
    #: steps as the server counts them
    steps: int
    created: float
    #: last creation, pop or settlement: a request that nothing happens to expires
    touched: float
    jobs: list[Job] = field(default_factory=list)
    processing: int = 0
    finished: int = 0
    restarted: int = 0
    given_up: bool = False
    kudos: float = 3.0
    #: the smallest level of reGen that may serve it; None where any worker may
    bridge_level: int | None = None
    #: object names of stored inputs
    source_image: str | None = None
    source_mask: str | None = None
    extra_source_images: tuple[tuple[str, float], ...] = ()

    @property
    def pixels(self) -> int:
        return int(self.params["width"]) * int(self.params["height"])

    @property
    def megapixelsteps(self) -> float:
        return self.pixels * self.steps / 1_000_000

    @property
    def done(self) -> bool:
        """Nothing waits and nobody works on it; there may be fewer images than asked."""
        return self.waiting == 0 and self.processing == 0


@dataclass(frozen=True)
class Delivery:
    """One image as its requester gets it. `data` is None where nothing was uploaded for it."""

    job_id: str
    model: str
    worker: str
    #: from pop to submit
    seconds: float
    seed: int
    censored: bool
    gen_metadata: tuple[Mapping[str, Any], ...]
    kudos: float
    data: bytes | None

    def picture(self) -> RawImage:
        """The delivered picture. Raises ValueError when there is none, or nothing that can be read."""
        if self.data is None:
            raise ValueError(f"nothing was uploaded for job {self.job_id}")
        return RawImage.from_pillow(open_picture(self.data, most_pixels=MOST_RENDERED_PIXELS))


@dataclass(frozen=True)
class Accounting:
    """The books: every popped id with its outcome, and every answer that no open job was waiting for."""

    outcomes: Mapping[str, Outcome]
    #: ids whose pop answer was destroyed on its way by an injected fault: no worker knows of them
    undelivered: frozenset[str]
    #: needless answers to jobs that were already answered with an image
    duplicates: int
    #: answers to jobs that were faulted or taken away before
    late: int
    #: answers to settled jobs whose submit had been answered, but not within the worker's hearing
    repeats: int
    #: answers to ids that never existed
    unknown: int
    #: kudos credited for delivered images
    kudos: float
    #: when each image was delivered, in seconds on the Horde's clock
    delivered_at: tuple[float, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """How many popped ids ended so; undelivered ones are not the worker's and do not count."""
        return Counter(self._delivered())[outcome]

    @property
    def popped(self) -> int:
        return len(self._delivered())

    @property
    def answered(self) -> int:
        """Ids with an answer by the worker, image or fault."""
        return self.count(Outcome.OK) + self.count(Outcome.FAULTED)

    @property
    def lost(self) -> int:
        """Ids that were taken away, or that still have no answer."""
        return self.popped - self.answered

    def as_dict(self) -> dict[str, Any]:
        """For JSON; without the single ids."""
        counts = Counter(self._delivered())
        return {
            "popped": self.popped,
            "answered": self.answered,
            **{outcome.value: counts[outcome] for outcome in Outcome},
            "undelivered": len(self.undelivered),
            "duplicates": self.duplicates,
            "repeats": self.repeats,
            "late": self.late,
            "unknown": self.unknown,
            "kudos": round(self.kudos, 2),
            "delivered_at": self.delivered_at,
        }

    def _delivered(self) -> list[Outcome]:
        return [outcome for job_id, outcome in self.outcomes.items() if job_id not in self.undelivered]
