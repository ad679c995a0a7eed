"""Every error that the worker raises on purpose, as one tree.

    WorkerError                      a sentence for the owner, and a remedy
    ├── ConfigError                  the owner's settings can't be used
    ├── RuntimeMissing               the engine's environment is absent or incomplete
    ├── EngineChangeRefused          an engine can't be added, tried, used or removed
    ├── InputRefused                 data from outside that is malformed, too large, or of no kind taken
    ├── HordeError                   the Horde's API
    │   ├── HordeUnreachable         no answer, a 5xx, or no JSON: try again later
    │   ├── HordeBusy                not now: wait as long as it says
    │   ├── HordeMaintenance         this worker is in maintenance mode
    │   ├── HordeRefused             a final no that the owner can act on (key, name, models)
    │   │   └── HordeKeyUnknown      final, unless the key was known a moment ago
    │   └── JobGone                  the Horde no longer wants an answer to this job
    ├── DownloadError                any other host: CivitAI, GitHub, Hugging Face, a model's own address
    │   ├── HostUnreachable          no connection, no answer in time, or a 5xx: try again later
    │   ├── DownloadFailed           the transfer broke off: try again later
    │   ├── DownloadRefused          a final no: not found, forbidden, not JSON, larger than allowed
    │   │   └── AddressRefused       the address is not one that the worker connects to
    │   ├── DiskFull                 no room for the file on this disk
    │   └── FileBroken               the file arrived whole and is not the right one (size, hash, format)
    ├── TemplateError                a workflow template or fragment is wrong
    ├── JobError                     this job, on any engine
    │   ├── JobNotUnderstood         the payload can't be read as a job
    │   ├── JobNotServable           no template or no model for it
    │   ├── JobLate                  its time to live has passed
    │   └── UploadFailed             the image was made but could not be delivered
    ├── EngineError                  one engine, while it had this job
    │   ├── EngineStartFailed        it never became ready
    │   │   └── EngineNotRunnable    nor will it: no ComfyUI, no Python, no folder to write in
    │   ├── EngineDied               the process ended
    │   ├── EngineStalled            alive, but without any progress
    │   ├── OutOfMemory              not enough memory for this job as it is
    │   ├── DeviceLost               the GPU's context is broken; only a new process helps
    │   ├── ImageNotFinite           the computation gave NaN or infinity in place of a picture
    │   ├── PayloadFailed            what the requester sent makes a node fail: its text, its picture
    │   ├── AdditionBroken           a LoRA or textual inversion of the job can't be used
    │   │   └── AdditionMismatch     one changes nothing: it is for another family
    │   ├── ModelBroken              a model file can't be read
    │   │   ├── ModelIncomplete      it lacks a part: no VAE, no text encoder
    │   │   ├── ModelMismatch        it is of another family than declared
    │   │   └── ModelHoldsCode       a pickle with program code, which is not loaded
    │   ├── GraphRejected            ComfyUI refuses the graph
    │   ├── NodeFailed               a node raised something else
    │   └── RenderCancelled          interrupted, by the worker or by hand
    └── SafetyUnavailable            no verdict to be had, so no image may leave

`blame` says whose failure it is, and `retry` whether the same call may be made again (of a job's tries
`worker.after_fault` decides).
"""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class Blame(str, Enum):
    """Whose failure it is. What follows for the job, its requester and the worker depends on this."""

    #: what the requester sent: payload, prompt, source pictures
    REQUESTER = "requester"
    #: a LoRA or textual inversion that the job names
    ADDITION = "addition"
    #: a checkpoint, VAE, ControlNet, upscaler … on this disk
    MODEL_FILE = "model file"
    #: a workflow template or fragment
    TEMPLATE = "template"
    #: one engine process
    ENGINE = "engine"
    #: the device an engine runs on: its memory, its driver
    CARD = "card"
    #: the Horde's servers
    HORDE = "horde"
    #: a connection, or another host at its end
    NETWORK = "network"
    #: the owner's settings, disk or installation
    OWNER = "owner"
    #: a defect of this program
    WORKER = "worker"


class Retry(str, Enum):
    """What another try of the same job needs."""

    NO = "no"
    SAME = "same"
    #: with less memory: tiled decode, smaller batches, everything else unloaded first
    DEGRADED = "degraded"
    #: without the LoRAs and textual inversions that can't be used
    WITHOUT = "without"


class AdditionKind(str, Enum):
    """Kinds of files that a job names beside its model; the values are gen_metadata's types."""

    LORA = "lora"
    TEXTUAL_INVERSION = "ti"


@dataclass(frozen=True)
class Addition:
    """A LoRA or textual inversion in a graph. `file` as ComfyUI lists it; a textual inversion without its suffix."""

    kind: AdditionKind
    file: str

    def __str__(self) -> str:
        what = "LoRA" if self.kind is AdditionKind.LORA else "textual inversion"
        return f"the {what} {self.file}"


class WorkerError(Exception):
    """Base of all errors raised on purpose. `remedy` tells the owner what to do; it may be empty."""

    blame: ClassVar[Blame] = Blame.WORKER
    retry: ClassVar[Retry] = Retry.NO

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class ConfigError(WorkerError):
    """The owner's settings can't be used; the message names where, what and what is allowed."""

    blame = Blame.OWNER


class RuntimeMissing(WorkerError):
    """The engine's environment is absent or incomplete."""

    blame = Blame.OWNER


class EngineChangeRefused(WorkerError):
    """An engine can't be added beside the one in use, tried, taken into use or removed."""

    blame = Blame.OWNER


class InputRefused(WorkerError, ValueError):
    """Data from outside was refused: malformed, larger than its bound, or of no kind that is taken."""

    blame = Blame.NETWORK


class HordeError(WorkerError):
    """The Horde's API answered something other than hoped for. `status` 0: no answer at all."""

    blame = Blame.HORDE

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

    blame = Blame.OWNER


class HordeKeyUnknown(HordeRefused):
    """The Horde finds no account with this key. While its database is in trouble it says so of good keys, too."""


class JobGone(HordeError):
    """The Horde has no use for an answer any more: unknown, already answered, or aborted."""


class DownloadError(WorkerError):
    """A host other than the Horde's did not give a file or document.

    `status` 0: no HTTP answer. `retry_after_s`: seconds that the server asks to wait before another try.
    """

    blame = Blame.NETWORK

    def __init__(self, message: str, *, status: int = 0, retry_after_s: float = 0.0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.retry_after_s = retry_after_s


class HostUnreachable(DownloadError):
    """No connection, no answer in time, or a server error; a later try may succeed."""

    retry = Retry.SAME


class DownloadFailed(DownloadError):
    """The transfer broke off or stood still; a later try goes on where it ended."""

    retry = Retry.SAME


class DownloadRefused(DownloadError):
    """A final no: not found, forbidden, of another type, or larger than allowed."""


class AddressRefused(DownloadRefused):
    """The address is not one that the worker connects to: not HTTPS, or not public."""


class DiskFull(DownloadError):
    """The disk has no room for the file; a later try may find some."""

    blame = Blame.OWNER
    retry = Retry.SAME


class FileBroken(DownloadError):
    """The file arrived whole and is not the right one: its size, hash or format differs."""


class TemplateError(WorkerError):
    """A template or fragment is wrong. `violations` lists everything found, as `file:node:input: what`."""

    blame = Blame.TEMPLATE

    def __init__(self, message: str, *, violations: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__("\n".join((message, *violations)), remedy=remedy)
        self.violations = violations


class JobError(WorkerError):
    """The job itself can't be done, whatever engine tries."""

    blame = Blame.REQUESTER


class JobNotUnderstood(JobError):
    """The payload can't be read as a job."""


class JobNotServable(JobError):
    """No enabled template, or no model file, for what the job asks."""

    blame = Blame.WORKER


class JobLate(JobError):
    """The job's time to live passed before it was done."""

    blame = Blame.WORKER


class UploadFailed(JobError):
    """The storage did not take the image."""

    blame = Blame.NETWORK


class EngineError(WorkerError):
    """One engine failed while it had the job."""

    blame = Blame.ENGINE


class EngineStartFailed(EngineError):
    """The engine did not become ready."""


class EngineNotRunnable(EngineStartFailed):
    """The installation lacks what an engine needs: ComfyUI, its Python, a folder to write in, kernels for the card."""

    blame = Blame.OWNER


class EngineDied(EngineError):
    """The engine's process ended."""


class EngineStalled(EngineError):
    """The engine lives, but nothing has moved for too long."""


class OutOfMemory(EngineError):
    """Not enough device or host memory for the job as it is."""

    blame = Blame.CARD

    def __init__(self, message: str, *, node_type: str = "", remedy: str = "") -> None:
        """`node_type`: the class of the node that ran out of memory, where the engine tells."""
        super().__init__(message, remedy=remedy)
        self.node_type = node_type


class DeviceLost(EngineError):
    """The device's context is broken; every further call in this process fails too."""

    blame = Blame.CARD


class ImageNotFinite(EngineError):
    """The computation gave NaN or infinity. A card, an engine, a model or a LoRA may cause it; repetition tells."""

    blame = Blame.CARD


class PayloadFailed(EngineError):
    """What the requester sent makes a node fail, on any engine."""

    blame = Blame.REQUESTER


class AdditionBroken(EngineError):
    """LoRAs or textual inversions of the job can't be used; `additions` are the ones under suspicion."""

    blame = Blame.ADDITION

    def __init__(self, message: str, *, additions: frozenset[Addition], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.additions = additions


class AdditionMismatch(AdditionBroken):
    """A LoRA has no key that the model has, or a textual inversion vectors of another width: for another family."""


class ModelBroken(EngineError):
    """A model file can't be used. `file` is its name as ComfyUI lists it, where the failing node tells."""

    blame = Blame.MODEL_FILE

    def __init__(self, message: str, *, file: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.file = file


class ModelIncomplete(ModelBroken):
    """The file lacks a part that its template needs: no VAE, no text encoder."""


class ModelMismatch(ModelBroken):
    """Shapes do not fit: the file is of another family than declared."""


class ModelHoldsCode(ModelBroken):
    """The file is a pickle that runs program code when it is loaded; ComfyUI refuses it."""


class GraphRejected(EngineError):
    """ComfyUI's validation refuses the graph; the same graph is refused by every engine of this version."""

    blame = Blame.TEMPLATE


class NodeFailed(EngineError):
    """A node raised an error of no known kind."""


class RenderCancelled(EngineError):
    """The prompt was interrupted or deleted from the queue."""

    blame = Blame.WORKER


class SafetyUnavailable(WorkerError):
    """No verdict to be had; the image must not leave."""

    retry = Retry.SAME
