"""The books of the embedded Horde: every popped id, and every answer. Grows by some hundred bytes a job."""

from worker.demo.horde.records import Accounting, Job, Outcome


class Books:
    """Who was given what, and what came back."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Outcome] = {}
        self._undelivered: set[str] = set()
        self._unheard: set[str] = set()
        self._duplicates = 0
        self._repeats = 0
        self._late = 0
        self._unknown = 0
        self._kudos = 0.0
        self._delivered_at: list[float] = []

    def popped(self, job: Job) -> None:
        self._outcomes[job.id] = Outcome.OPEN

    def settled(self, job: Job, credited: float) -> None:
        """The job has its outcome; `credited` kudos for it."""
        self._outcomes[job.id] = job.outcome
        self._kudos += credited
        if job.outcome is Outcome.OK:
            self._delivered_at.append(job.settled_at)

    def undelivered(self, job_ids: list[str]) -> None:
        """The answer that carried these ids never reached the worker."""
        self._undelivered.update(job_ids)

    def unheard(self, job_id: str) -> None:
        """The answer to this id's submit never reached the worker: it can only submit once more."""
        self._unheard.add(job_id)

    def stray(self, job: Job | None) -> None:
        """An answer that nothing was waiting for: to a job that has its outcome, or to none at all."""
        if job is None:
            self._unknown += 1
        elif job.id in self._unheard:
            self._repeats += 1
        elif job.outcome is Outcome.OK:
            self._duplicates += 1
        else:
            self._late += 1

    def accounting(self) -> Accounting:
        """A copy of the present state."""
        return Accounting(
            outcomes=dict(self._outcomes),
            undelivered=frozenset(self._undelivered),
            duplicates=self._duplicates,
            repeats=self._repeats,
            late=self._late,
            unknown=self._unknown,
            kudos=self._kudos,
            delivered_at=tuple(self._delivered_at),
        )
