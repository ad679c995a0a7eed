"""Counts of this session, by the Horde's answers."""

from dataclasses import dataclass

from worker.jobs.job import JobEvent, Stage


@dataclass
class SessionStats:
    """Counts of this session. Subscribe `note` to the job events.

    A batch is one job. Its images are paid, and their faults counted by the Horde, one by one.
    """

    done: int = 0
    #: jobs of which at least one image did not come
    faulted: int = 0
    #: images that the Horde has taken
    images: int = 0
    faulted_images: int = 0
    kudos: float = 0.0
    #: jobs that were not done because the worker had to stop
    given_back: int = 0

    def note(self, event: JobEvent) -> None:
        job = event.job
        if event.stage in {Stage.DONE, Stage.FAULTED}:
            self.done += event.stage is Stage.DONE
            self.faulted += event.stage is Stage.FAULTED
            self.images += job.delivered
            self.faulted_images += job.faulted
            self.kudos += job.kudos
