"""Generate docs/faults.md from `worker/after_fault.py`: `python -m tools.faults_page > docs/faults.md`."""

import sys
from collections.abc import Iterator

from worker.after_fault import FAULT_TABLE, AfterFault
from worker.errors import Retry, WorkerError

_INTRODUCTION = """\
# When a job fails

Every failure of a job is one of the errors below. Each says whose it is, and that decides what follows: a requester's
text or LoRA never sets a model of yours aside and never pauses the worker, a broken file is looked for and named, and
whatever an engine does, the job is tried again where its time allows.

- **tried again**: *same* on another engine where there is one; *degraded* with tiled decoding, image by image, and
  everything else unloaded; *without* the LoRAs and textual inversions that could not be used. A job that an engine had
  begun twice is not tried a third time.
- **not used meanwhile**: a job that is rendered clears every suspicion against its model and its LoRAs.
- **counts**: towards the pause after three faulted jobs in a row. The Horde counts every faulted image, whoever is to
  blame; the worker pauses before the Horde's limit of 20 an hour.
"""

_RETRIES = {
    Retry.NO: "no",
    Retry.SAME: "same",
    Retry.DEGRADED: "degraded",
    Retry.WITHOUT: "without",
}


def faults_page() -> str:
    """The page as Markdown."""
    head = (
        "| error | whose | what happened | tried again | engine restarted | not used meanwhile | counts "
        "| requester is told | owner |\n|---|---|---|---|---|---|---|---|---|"
    )
    return "\n".join((_INTRODUCTION, head, *(_row(kind, row) for kind, row in _rows()))) + "\n"


def _rows() -> Iterator[tuple[type[WorkerError], AfterFault]]:
    """By whose failure it is, in the order of the table."""
    blames = list(dict.fromkeys(kind.blame for kind in FAULT_TABLE))
    for blame in blames:
        yield from ((kind, row) for kind, row in FAULT_TABLE.items() if kind.blame is blame)


def _row(kind: type[WorkerError], row: AfterFault) -> str:
    what = (kind.__doc__ or "").split("\n\n")[0].split(". ")[0].strip().rstrip(".")
    cells = (
        f"`{kind.__name__}`", kind.blame.value, " ".join(what.split()), _RETRIES[row.retry],
        "yes" if row.restarts_engine else "no", row.sets_aside.value or "nothing", "yes" if row.brakes else "no",
        row.requester or "nothing", row.owner or "nothing to do",
    )  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(faults_page())
