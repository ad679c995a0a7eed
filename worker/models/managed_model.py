"""One model of a running worker, and what has become of it."""

from dataclasses import dataclass
from enum import Enum

from worker.models.catalog.records import ModelRecord
from worker.workflows.request import ServedModel


class ModelState(str, Enum):
    #: files are missing, and are being fetched or will be
    WAITING = "waiting"
    #: offered to the Horde
    READY = "ready"
    #: an engine could not read a file of it: jobs that are here are done, no more are asked for
    CHECKING = "checking"
    #: can't be fetched or used
    FAILED = "failed"


@dataclass
class ManagedModel:
    """One model that the owner wants, or an auxiliary file that could not be fetched.

    `served` is set while READY and CHECKING; `reason` says why it FAILED. `unreadable` counts engines' failures to
    read it although its files are the right ones; `flaw` is what engines found that no download can mend.
    """

    record: ModelRecord
    state: ModelState = ModelState.WAITING
    served: ServedModel | None = None
    reason: str = ""
    unreadable: int = 0
    flaw: str = ""


def unreadable_reason(record: ModelRecord) -> str:
    """Why engines that cannot read a complete model will not read it later."""
    if any(file.sha256 for file in record.files):
        return "engines cannot read it, although the checksums of its files are right"
    return "engines do not know its file as a model: check the file and, for a model of your own, its baseline"
