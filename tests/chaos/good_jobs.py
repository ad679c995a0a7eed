"""What became of the good jobs of a soak: those without hostile parts, whose loss only an injected fault explains."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from worker.demo.horde.records import Accounting, Outcome
from worker.errors import EngineError, HordeError, PayloadFailed, SafetyUnavailable, UploadFailed
from worker.jobs.job import Job

#: Errors of what is made to fail here: engines, the safety checker, the storage, the Horde.
INJECTED = (EngineError, SafetyUnavailable, UploadFailed, HordeError)


@dataclass
class GoodJobs:
    """Ids of good jobs by what became of them."""

    delivered: set[str] = field(default_factory=set)
    #: not delivered, because of an injected fault or because their session was broken off
    hit: set[str] = field(default_factory=set)
    #: not delivered, and nothing that was injected explains it; id → why
    lost: dict[str, str] = field(default_factory=dict)

    def judge(self, books: Accounting, jobs: Sequence[Job], *, hostile: Collection[str], broken_off: bool) -> None:
        """Look at what a session popped, once it is over. `jobs`: those that the worker began in it."""
        begun = {id_: job for job in jobs for id_ in job.pop.job_ids}
        passed_over = books.undelivered.union(hostile, self.delivered, self.hit, self.lost)
        for id_ in books.outcomes.keys() - passed_over:
            outcome, job = books.outcomes[id_], begun.get(id_)
            if outcome is Outcome.OK:
                self.delivered.add(id_)
            elif _is_hit(job, broken_off=broken_off):
                self.hit.add(id_)
            else:
                self.lost[id_] = job.fault if job else "never begun"


def _is_hit(job: Job | None, *, broken_off: bool) -> bool:
    if job is None:
        return broken_off
    if job.error is None:  # given back, or a defect, which nothing explains
        return broken_off and not job.fault.startswith("internal error")
    return isinstance(job.error, INJECTED) and not isinstance(job.error, PayloadFailed)
