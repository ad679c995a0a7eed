"""What this session has earned and lost, by the Horde's own answers."""

from dataclasses import dataclass

from worker.jobs.job import JobEvent, Stage


@dataclass
class Tally:
    """Counts of this session. Subscribe `note` to the job events."""

    popped: int = 0
    done: int = 0
    faulted: int = 0
    images: int = 0
    kudos: float = 0.0
    #: jobs that were not done because the worker had to stop
    given_back: int = 0

    def note(self, event: JobEvent) -> None:
        match event.stage:
            case Stage.POPPED:
                self.popped += 1
            case Stage.DONE | Stage.FAULTED:
                self.done += event.stage is Stage.DONE
                self.faulted += event.stage is Stage.FAULTED
                self.kudos += event.job.kudos
                self.images += len(event.job.pop.job_ids)
