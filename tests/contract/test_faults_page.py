"""docs/faults.md says what the fault table says, and the table has every failure of a job."""

import subprocess
import sys
from pathlib import Path

from worker import errors
from worker.after_fault import FAULT_TABLE, SetsAside, after_fault
from worker.errors import Blame, EngineError, JobError, WorkerError

ROOT = Path(__file__).resolve().parents[2]


def kinds(base: type[WorkerError]) -> list[type[WorkerError]]:
    return [base, *(kind for each in base.__subclasses__() for kind in kinds(each))]


def test_the_page_is_generated_from_the_table() -> None:
    done = subprocess.run([sys.executable, "-m", "tools.faults_page"], cwd=ROOT, capture_output=True, check=True)
    assert (ROOT / "docs" / "faults.md").read_text(encoding="utf-8") == done.stdout.decode(), "run: make pages"


def test_every_error_of_a_job_or_an_engine_has_a_row_of_its_own() -> None:
    wanted = {kind for base in (JobError, EngineError) for kind in kinds(base) if kind.__module__ == errors.__name__}
    assert wanted <= FAULT_TABLE.keys()


def test_what_requesters_cause_neither_pauses_the_worker_nor_sets_a_model_aside() -> None:
    for kind in kinds(WorkerError):
        if kind.blame in (Blame.REQUESTER, Blame.ADDITION):
            row = next(FAULT_TABLE[base] for base in kind.__mro__ if base in FAULT_TABLE)
            assert not row.brakes, kind
            assert row.sets_aside in (SetsAside.NOTHING, SetsAside.ADDITION), kind


def test_an_error_without_a_row_has_that_of_its_nearest_base() -> None:
    class Odd(errors.OutOfMemory):
        pass

    assert after_fault(Odd("…")) is FAULT_TABLE[errors.OutOfMemory]
    assert after_fault(errors.ConfigError("…")) is FAULT_TABLE[WorkerError]
