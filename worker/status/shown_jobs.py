"""Prompts and pictures of jobs, for an owner who wants to see them: in memory, bounded, and gone when he does not.

They are other people's words and pictures, so nothing is taken up while the key is off, and nothing is written to disk.
A picture is what the Horde gets: checked, and replaced where the safety check has replaced it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.bounded_dict import BoundedDict
from worker.jobs.job import Job, JobEvent, Stage
from worker.untrusted.text import visible_lines

#: Prompts that are kept, and characters of one.
MOST_PROMPTS, LONGEST_PROMPT = 500, 4000
#: Pictures that are kept, and their bytes altogether.
MOST_PICTURES, MOST_BYTES = 200, 24 * 1024 * 1024


@dataclass(eq=False)
class ShownJobs:
    """A listener to job events."""

    #: whether the owner wants to see them now
    is_wanted: Callable[[], bool]
    _prompts: BoundedDict[str, str] = field(default_factory=lambda: BoundedDict(MOST_PROMPTS), init=False)
    _pictures: dict[str, bytes] = field(default_factory=dict, init=False)

    def note(self, event: JobEvent) -> None:
        """Keep the prompt of a job that has come."""
        if event.stage is Stage.POPPED and self._may_keep():
            self._prompts[event.job.id] = visible_lines(event.job.prompt[:LONGEST_PROMPT])

    def note_picture(self, job: Job, data: bytes) -> None:
        """Keep the first picture of a job, as WebP."""
        if not self._may_keep() or job.id in self._pictures or len(data) > MOST_BYTES:
            return
        self._pictures[job.id] = data
        while len(self._pictures) > MOST_PICTURES or sum(map(len, self._pictures.values())) > MOST_BYTES:
            del self._pictures[next(iter(self._pictures))]

    def prompt(self, job_id: str) -> str | None:
        """The prompt of a job, if it is known and may be shown."""
        return self._prompts.get(job_id) if self._may_keep() else None

    def picture(self, job_id: str) -> bytes | None:
        """The picture of a job, if it is known and may be shown."""
        return self._pictures.get(job_id) if self._may_keep() else None

    def _may_keep(self) -> bool:
        if self.is_wanted():
            return True
        self._prompts.clear()
        self._pictures.clear()
        return False
