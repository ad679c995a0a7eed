"""Counts of this session, by the Horde's answers."""

from dataclasses import dataclass, field

from worker.errors import HordeUnreachable
from worker.jobs.job import Job, PopEvent, Stage
from worker.status.request_summary import LONGEST_NAME
from worker.status.snapshot import Outcome, StageTimes, Tally
from worker.untrusted.text import visible

#: Models counted apart, and what the others are counted as. No count may ever fall, so none is given up again.
MOST_MODELS, OTHER_MODELS = 500, "other"
POP_RESULTS = ("job", "nothing", "refused", "unreachable")


@dataclass
class SessionStats:
    """Counts of this session.

    A batch is one job. Its images are paid, and their faults counted by the Horde, one by one.
    """

    #: faulted are jobs of which at least one image did not come, images those that the Horde has taken
    total: Tally = field(default_factory=Tally)
    faulted_images: int = 0
    #: jobs that were not done because the worker had to stop
    given_back: int = 0
    #: in the order of their first jobs
    models: dict[str, Tally] = field(default_factory=dict)
    #: faulted jobs by whose failure it was
    faults: dict[str, int] = field(default_factory=dict)
    #: seconds of all jobs by stage
    stages: StageTimes = field(default_factory=StageTimes)
    #: pops by what they brought: job, nothing, refused, unreachable; and the seconds that all took
    pops: dict[str, int] = field(default_factory=lambda: dict.fromkeys(POP_RESULTS, 0))
    pop_s: float = 0.0

    def ended(self, job: Job, one: Tally, stages: StageTimes) -> None:
        """A job has ended that adds so much, and spent so long in its stages."""
        self.total += one
        self.faulted_images += job.faulted
        model = visible(job.pop.model, longest=LONGEST_NAME)
        if model not in self.models and len(self.models) >= MOST_MODELS:
            model = OTHER_MODELS
        self.models[model] = self.models.get(model, Tally()) + one
        if one.faulted:
            blame = blame_of(job)
            self.faults[blame] = self.faults.get(blame, 0) + 1
        self.stages += stages

    def note_pop(self, event: PopEvent) -> None:
        self.pops[_result(event)] += 1
        self.pop_s += event.took_s


def _result(event: PopEvent) -> str:
    if event.answer is not None:
        return "job" if event.answer.job_ids else "nothing"
    return "unreachable" if isinstance(event.error, HordeUnreachable) else "refused"


def tally_of(job: Job, stage: Stage) -> Tally:
    """What one job that has ended adds to a sum."""
    render_s = max(0.0, (job.rendered_at or 0.0) - (job.started_at or 0.0)) if job.rendered_at else 0.0
    faulted = stage is Stage.FAULTED
    return Tally(int(not faulted), int(faulted), job.delivered, job.kudos, render_s)


def outcome_of(job: Job, stage: Stage) -> Outcome:
    """How a job that has ended did so."""
    if stage is not Stage.FAULTED:
        return Outcome.DONE
    return Outcome.FAULTED if job.error is not None else Outcome.GIVEN_BACK


def blame_of(job: Job) -> str:
    """Whose failure it was: a value of `worker.errors.Blame`, or what ended the job from outside."""
    return job.error.blame.value if job.error is not None else Outcome.GIVEN_BACK.value
