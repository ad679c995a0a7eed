"""Messages of the AI Horde's API v2, as a worker sends and receives them.

What we send is complete: every field of a pop goes out, because the server's defaults are not the documented ones.
What we receive is read leniently: unknown fields are ignored, and only what no job can do without is required, so
that a new enum or a raised limit on the server never loses a popped job.
"""

from collections.abc import Container
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

#: characters of a metadata reference that the server takes
LONGEST_REF = 255
#: the server keeps seeds in signed 64 bits and answers 500 to more
SEED_BITS = 63
#: the largest count of requests that is believed
LARGEST_COUNT = 10**6


class Sent(BaseModel):
    """A message to the Horde: exactly these fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Received(BaseModel):
    """A message from the Horde: at least these fields; null counts as absent."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: Any) -> Any:
        if value is None:
            return cls.model_fields[info.field_name].get_default(call_default_factory=True)
        return value


class PopRequest(Sent):
    """POST /v2/generate/pop. No defaults here: each field is a decision of the caller."""

    name: str
    priority_usernames: list[str]
    nsfw: bool
    models: list[str]
    bridge_agent: str
    threads: int
    require_upfront_kudos: bool
    amount: int
    extra_slow_worker: bool
    max_pixels: int
    blacklist: list[str]
    allow_img2img: bool
    allow_painting: bool
    allow_unsafe_ipaddr: bool
    allow_post_processing: bool
    allow_controlnet: bool
    allow_sdxl_controlnet: bool
    allow_lora: bool
    limit_max_steps: bool
    #: what samplers are promised to do; the server in service does not know it, newer ones do
    sampler_execution_contract_version: str | None = None


class MaintenanceRequest(Sent):
    """PUT /v2/workers/{id}: take the worker out of service or back into it."""

    maintenance: bool
    #: shown to the worker in place of the server's own words
    maintenance_msg: str | None = None


class ExtraSourceImage(Received):
    """A further picture for a remix: where it is, how much it counts."""

    image: str
    strength: float = 1.0


class Message(Received):
    """A word from the Horde to the worker's owner."""

    id: str = ""
    message: str = ""
    origin: str = ""
    expiry: str = ""


def _lower_case(payload: dict[str, Any]) -> dict[str, Any]:
    """Its fields are taken however their names are written."""
    return {name.lower(): value for name, value in payload.items()}


class PopResponse(Received):
    """The answer to a pop. Without `ids` there is no job, whatever stands in `payload`.

    A job with `problems` can't be done, for what it needs is missing or garbled: all that is left is to report each
    of its ids as faulted.
    """

    id: str | None = None
    ids: list[str] = []
    #: as sent, names in lower case; worker.workflows.request makes sense of it
    payload: Annotated[dict[str, Any], AfterValidator(_lower_case)] = {}
    model: str = ""
    #: seconds from the pop within which each id must be answered
    ttl: float = Field(default=150.0, gt=0, le=86_400)
    skipped: dict[str, Any] = {}
    messages: list[Message] = []
    source_image: str | None = None
    source_mask: str | None = None
    source_processing: str = "img2img"
    extra_source_images: list[ExtraSourceImage] = []
    r2_upload: str | None = None
    r2_uploads: list[str] = []
    #: written by worker.horde.pop_parser, never by the server
    problems: tuple[str, ...] = ()

    @property
    def job_ids(self) -> list[str]:
        """One id per image wanted; empty when there is no job."""
        return self.ids or ([self.id] if self.id else [])

    @property
    def uploads(self) -> list[str]:
        """One presigned PUT URL per id, in the same order."""
        return self.r2_uploads or ([self.r2_upload] if self.r2_upload else [])

    def passed_over(self, reasons: Container[str]) -> dict[str, int]:
        """Requests that wait and are not for this worker, by those of the Horde's reasons whose counts make sense."""
        return {
            reason: min(count, LARGEST_COUNT)
            for reason, count in self.skipped.items()
            if reason in reasons and isinstance(count, int) and count > 0
        }


def _cut_ref(value: Any) -> Any:
    """The name of a LoRA may be longer, or hold what is no character: the beginning tells enough."""
    return value.encode("utf-8", "replace").decode()[:LONGEST_REF] if isinstance(value, str) else value


class GenMetadata(Sent):
    """What a requester should know about one image."""

    type: Literal[
        "lora",
        "ti",
        "censorship",
        "source_image",
        "source_mask",
        "extra_source_images",
        "batch_index",
        "information",
        "aesthetic_score",
    ]
    value: Literal["download_failed", "parse_failed", "baseline_mismatch", "csam", "nsfw", "see_ref"]
    ref: Annotated[str | None, BeforeValidator(_cut_ref)] = None


def _fold_seed(value: Any) -> Any:
    """A picture delivered with a folded seed is worth more than one the server chokes on."""
    if isinstance(value, int) and not -(1 << SEED_BITS) <= value < 1 << SEED_BITS:
        return value & ((1 << SEED_BITS) - 1)
    return value


class SubmitRequest(Sent):
    """POST /v2/generate/submit, for one image."""

    id: str
    #: "R2" once the image is uploaded; any text for a fault
    generation: str
    state: Literal["ok", "censored", "faulted", "csam"]
    seed: Annotated[int, BeforeValidator(_fold_seed)]
    #: the server takes 50 at most
    gen_metadata: list[GenMetadata] = Field(default=[], max_length=50)


class SubmitResponse(Received):
    #: kudos; None when the Horde has the image but the answer that named the reward was lost
    reward: float | None = Field(default=None, allow_inf_nan=False)


class UserDetails(Received):
    """GET /v2/find_user: whose key this is."""

    username: str = ""
    id: int = 0
    kudos: float = 0.0
    #: held back until the account is trusted; shown to its owner only
    evaluating_kudos: float | None = None
    trusted: bool = False
    worker_ids: list[str] = []


class ModelDemand(Received):
    """One entry of GET /v2/status/models: what waits for a model, and who serves it."""

    name: str = ""
    #: threads of all workers that serve it
    count: float = Field(default=0.0, allow_inf_nan=False)
    #: images that wait
    jobs: float = Field(default=0.0, allow_inf_nan=False)


class HordePerformance(Received):
    """GET /v2/status/performance: the queue as a whole."""

    #: images that wait
    queued_requests: float = Field(default=0.0, allow_inf_nan=False)


class TeamDetails(Received):
    """A worker's team, as its details name it."""

    name: str = ""


class WorkerDetails(Received):
    """GET /v2/workers/name/{name}."""

    id: str
    name: str = ""
    #: shown to the owner only, unless the owner's workers are public
    owner: str = ""
    maintenance_mode: bool = False
    paused: bool = False
    online: bool = False
    team: TeamDetails = TeamDetails()
    kudos_rewards: float = 0.0
    requests_fulfilled: float = 0.0
    uncompleted_jobs: float = 0.0
