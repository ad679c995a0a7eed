"""Everything that can go wrong, as one tree.

    WorkerError                      a sentence for the owner, and a remedy
    ├── ConfigError                  the owner's settings can't be used
    ├── RuntimeMissing               the engine's environment is absent or incomplete
    ├── HordeError                   the Horde's API
    │   ├── HordeUnreachable         no answer, a 5xx, garbage: worth another try later
    │   ├── HordeBusy                not now: wait as long as it says
    │   ├── HordeMaintenance         this worker is in maintenance mode
    │   ├── HordeRefused             a final no that the owner can act on (key, name, models)
    │   │   └── HordeKeyUnknown      final, unless the key was known a moment ago
    │   └── JobGone                  the Horde no longer wants an answer to this job
    ├── TemplateError                a workflow template or fragment is wrong
    ├── JobError                     this job, on any engine
    │   ├── JobNotUnderstood         the payload makes no sense to us
    │   ├── JobNotServable           no template or no model for it
    │   ├── JobLate                  its time to live has passed
    │   └── UploadFailed             the image was made but could not be delivered
    ├── EngineError                  one engine, while it had this job
    │   ├── EngineStartFailed        it never became ready
    │   ├── EngineDied               the process is gone
    │   ├── EngineStalled            alive, but nothing moves
    │   ├── OutOfMemory              not enough memory for this job as it is
    │   ├── DeviceLost               the GPU's context is broken; only a new process helps
    │   ├── ModelBroken              a model file can't be read
    │   ├── GraphRejected            ComfyUI refuses the graph
    │   ├── NodeFailed               a node raised something else
    │   └── RenderCancelled          interrupted, by us or by hand
    └── SafetyUnavailable            no verdict to be had, so no image may leave

Two questions are answered by class attributes, so that nobody asks them by `isinstance`: `retry` (may the same
job be tried again, and how) and `restarts_engine` (is the process that raised it still of use).
"""

from enum import Enum
from typing import ClassVar


class Retry(str, Enum):
    """What another try of the same job needs."""

    NO = "no"
    SAME = "same"
    #: with less memory: tiled decode, smaller batches, everything else unloaded first
    DEGRADED = "degraded"


class WorkerError(Exception):
    """Base of all errors raised on purpose. `remedy` tells the owner what to do; it may be empty."""

    retry: ClassVar[Retry] = Retry.NO
    restarts_engine: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class ConfigError(WorkerError):
    """The owner's settings can't be used; the message names where, what and what is allowed."""


class RuntimeMissing(WorkerError):
    """The engine's environment is absent or incomplete."""


class HordeError(WorkerError):
    """The Horde's API answered something other than hoped for. `status` 0: no answer at all."""

    def __init__(self, message: str, *, status: int = 0, rc: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.rc = rc


class HordeUnreachable(HordeError):
    """No answer, a server error, or an answer that is not JSON."""

    retry = Retry.SAME


class HordeBusy(HordeError):
    """Not now: too many requests, or an address that gets nothing yet; try again after `retry_after_s` seconds."""

    retry = Retry.SAME

    def __init__(
        self, message: str, *, retry_after_s: float, status: int = 429, rc: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message, status=status, rc=rc, remedy=remedy)
        self.retry_after_s = retry_after_s


class HordeMaintenance(HordeError):
    """The worker is in maintenance mode: it gets its owner's own jobs only."""


class HordeRefused(HordeError):
    """A final no. Trying again without a change by the owner gives the same answer."""


class HordeKeyUnknown(HordeRefused):
    """The Horde finds no account with this key. While its database is in trouble it says so of good keys, too."""


class JobGone(HordeError):
    """The Horde has no use for an answer any more: unknown, already answered, or aborted."""


class TemplateError(WorkerError):
    """A template or fragment is wrong. `violations` lists everything found, as `file:node:input: what`."""

    def __init__(self, message: str, *, violations: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__("\n".join((message, *violations)), remedy=remedy)
        self.violations = violations


class JobError(WorkerError):
    """The job itself can't be done, whatever engine tries."""


class JobNotUnderstood(JobError):
    """The payload can't be read as a job."""


class JobNotServable(JobError):
    """No enabled template, or no model file, for what the job asks."""


class JobLate(JobError):
    """The job's time to live passed before it was done."""


class UploadFailed(JobError):
    """The storage did not take the image."""


class EngineError(WorkerError):
    """One engine failed while it had the job."""

    retry = Retry.SAME


class EngineStartFailed(EngineError):
    """The engine did not become ready."""

    restarts_engine = True


class EngineDied(EngineError):
    """The engine's process ended."""

    restarts_engine = True


class EngineStalled(EngineError):
    """The engine lives, but nothing has moved for too long."""

    restarts_engine = True


class OutOfMemory(EngineError):
    """Not enough device or host memory for the job as it is."""

    retry = Retry.DEGRADED


class DeviceLost(EngineError):
    """The device's context is broken; every further call in this process fails too."""

    restarts_engine = True


class ModelBroken(EngineError):
    """A model file is truncated or corrupt."""

    retry = Retry.NO


class GraphRejected(EngineError):
    """ComfyUI's validation refuses the graph; the same graph is refused by every engine of this version."""

    retry = Retry.NO


class NodeFailed(EngineError):
    """A node raised an error of no known kind."""


class RenderCancelled(EngineError):
    """The prompt was interrupted or deleted from the queue."""

    retry = Retry.NO


class SafetyUnavailable(WorkerError):
    """No verdict to be had; the image must not leave."""

    retry = Retry.SAME
