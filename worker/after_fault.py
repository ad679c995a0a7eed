"""The fault table: what follows from each failure of a job, out-of-memory included. Pure.

Nobody decides by the class of an error but here. docs/faults.md is generated from it (tools/faults_page.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from worker.errors import (
    AdditionBroken,
    AdditionMismatch,
    DeviceLost,
    EngineDied,
    EngineError,
    EngineNotRunnable,
    EngineStalled,
    EngineStartFailed,
    GraphRejected,
    HordeError,
    ImageNotFinite,
    JobError,
    JobGone,
    JobLate,
    JobNotServable,
    JobNotUnderstood,
    ModelBroken,
    ModelHoldsCode,
    ModelIncomplete,
    ModelMismatch,
    NodeFailed,
    OutOfMemory,
    PayloadFailed,
    RenderCancelled,
    Retry,
    SafetyUnavailable,
    TemplateError,
    UploadFailed,
    WorkerError,
)


class SetsAside(str, Enum):
    """What is not used for a while."""

    NOTHING = ""
    #: the LoRA or textual inversion: left out of jobs
    ADDITION = "the addition, for an hour"
    #: after three in a row on engines; a job with additions counts against those
    MODEL_BY_EVIDENCE = "the model, for minutes, after three in a row"
    #: the engine where several models, or one that another engine renders, fail on it in a row; else the model
    MODEL_OR_ENGINE = "the model, for minutes, or the engine, for a quarter of an hour, as three in a row tell"
    #: files are checked, and fetched again when they are damaged
    MODEL_FILE = "the model, while its files are checked; damaged ones are fetched again"
    #: nothing can mend it but another file
    MODEL = "the model, at once, until its file is another"
    SIZE = "larger pictures and batches of this model on this card, for minutes"


@dataclass(frozen=True)
class AfterFault:
    """What follows from one failure of a job."""

    #: how the job is tried again, where its time allows
    retry: Retry = Retry.NO
    #: the process that failed is replaced
    restarts_engine: bool = False
    sets_aside: SetsAside = SetsAside.NOTHING
    #: counts towards the pause after faulted jobs in a row; the Horde's own limit an hour counts every fault
    brakes: bool = True
    #: what the requester is told with the picture, as gen_metadata
    requester: str = ""
    #: what the owner can do, beyond the error's own remedy
    owner: str = ""


#: By class; a class without a row has that of its nearest base.
FAULT_TABLE: Final[Mapping[type[WorkerError], AfterFault]] = {
    WorkerError: AfterFault(owner="a defect of this program: please report it with the log"),
    JobError: AfterFault(brakes=False),
    JobNotUnderstood: AfterFault(brakes=False),
    JobNotServable: AfterFault(owner="the log names the file or template that is missing"),
    JobLate: AfterFault(owner="lower max_power, or use smaller models"),
    UploadFailed: AfterFault(owner="check the network"),
    TemplateError: AfterFault(owner="run `workflows check`"),
    HordeError: AfterFault(owner="check the network; nothing else if the Horde is down"),
    JobGone: AfterFault(brakes=False),
    SafetyUnavailable: AfterFault(owner="the log of the safety checker says why"),
    EngineError: AfterFault(retry=Retry.SAME),
    EngineStartFailed: AfterFault(retry=Retry.SAME, restarts_engine=True, owner="the engine's log says why"),
    EngineNotRunnable: AfterFault(owner="mend the installation: run update-runtime"),
    EngineDied: AfterFault(
        retry=Retry.SAME,
        restarts_engine=True,
        sets_aside=SetsAside.MODEL_BY_EVIDENCE,
        owner="the fault holds the exit code and the end of the engine's log",
    ),
    EngineStalled: AfterFault(
        retry=Retry.SAME,
        restarts_engine=True,
        sets_aside=SetsAside.MODEL_BY_EVIDENCE,
        owner="raise process_timeout where the disk is slow",
    ),
    OutOfMemory: AfterFault(
        retry=Retry.DEGRADED,
        sets_aside=SetsAside.SIZE,
        owner="lower max_power or max_batch if it happens often",
    ),
    DeviceLost: AfterFault(
        retry=Retry.SAME,
        restarts_engine=True,
        sets_aside=SetsAside.MODEL_BY_EVIDENCE,
        owner="look at the card's driver, cooling and power if it returns",
    ),
    ImageNotFinite: AfterFault(
        retry=Retry.SAME,
        sets_aside=SetsAside.MODEL_OR_ENGINE,
        requester="lora or ti: parse_failed, where the next try did without them",
        owner="an engine that does it twice in a row is restarted; with several models: the card or its driver",
    ),
    PayloadFailed: AfterFault(brakes=False),
    AdditionBroken: AfterFault(
        retry=Retry.WITHOUT,
        sets_aside=SetsAside.ADDITION,
        brakes=False,
        requester="lora or ti: parse_failed, with its name",
        owner="nothing; the log names the file",
    ),
    AdditionMismatch: AfterFault(
        retry=Retry.WITHOUT, brakes=False, requester="lora or ti: baseline_mismatch, with its name", owner="nothing"
    ),
    ModelBroken: AfterFault(sets_aside=SetsAside.MODEL_FILE, owner="nothing where the file can be fetched again"),
    ModelIncomplete: AfterFault(sets_aside=SetsAside.MODEL, owner="take a file that has all parts"),
    ModelMismatch: AfterFault(sets_aside=SetsAside.MODEL_BY_EVIDENCE, owner="correct the baseline of the custom model"),
    ModelHoldsCode: AfterFault(sets_aside=SetsAside.MODEL, owner="take the model as .safetensors"),
    GraphRejected: AfterFault(owner="run `workflows check`"),
    NodeFailed: AfterFault(retry=Retry.SAME, owner="the engine's log has the traceback"),
    RenderCancelled: AfterFault(brakes=False),
}


def after_fault(error: WorkerError) -> AfterFault:
    """What follows from this error."""
    return next(FAULT_TABLE[kind] for kind in type(error).__mro__ if kind in FAULT_TABLE)
