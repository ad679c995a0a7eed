"""The jobs of a session: what each asks for, the seconds of its stages, and how it ended. Bounded."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from worker.after_fault import after_fault
from worker.clock import Clock, monotonic
from worker.jobs.job import BEFORE_RENDERED, Job, JobEvent, Stage
from worker.status.hourly_counts import Hours
from worker.status.request_summary import RequestSummary, summary_of
from worker.status.session import SessionStats, blame_of, outcome_of, tally_of
from worker.status.snapshot import JobRecord, JobView, StageTimes
from worker.untrusted.text import quote

#: Jobs kept: a day of one every nine seconds.
MOST_JOBS = 10_000
#: Seconds for which a job is kept.
KEPT_S = 86_400.0
#: Characters of a reason.
LONGEST_REASON = 500

#: Called with each job that has ended.
EndListener = Callable[[JobRecord], None]


class JobBook:
    """Subscribe `note` to the job events."""

    def __init__(self, *, clock: Clock = monotonic, wall: Callable[[], float] = time.time) -> None:
        self.session = SessionStats()
        self.hours = Hours()
        self._clock = clock
        self._wall = wall
        self._asked: dict[Job, RequestSummary] = {}
        #: when a job came to its stages, on the clock
        self._entered: dict[Job, dict[Stage, float]] = {}
        self._ended: deque[JobRecord] = deque(maxlen=MOST_JOBS)
        self._end_listeners: list[EndListener] = []

    def on_end(self, listener: EndListener) -> None:
        """Call `listener` with each job that ends."""
        self._end_listeners.append(listener)

    def note(self, event: JobEvent) -> None:
        """A job came to a stage."""
        job, stage = event.job, event.stage
        self._entered.setdefault(job, {})[stage] = self._clock()
        self.session.note(event)
        if stage in {Stage.DONE, Stage.FAULTED}:
            record = self._record(job, stage)
            self.session.note_stages(record.stages)
            self._asked.pop(job, None)
            self._entered.pop(job, None)
            self._ended.appendleft(record)
            self.hours.add(record.ended_at, record.model, record.features, tally_of(job, stage))
            for listener in self._end_listeners:
                listener(record)

    def restore(self, records: list[JobRecord]) -> None:
        """Jobs of earlier runs, the latest first."""
        self._ended.extend(islice(records, MOST_JOBS - len(self._ended)))

    def ended(self) -> Iterator[JobRecord]:
        """Jobs that ended within a day, the latest first."""
        oldest = self._wall() - KEPT_S
        while self._ended and self._ended[-1].ended_at < oldest:
            self._ended.pop()
        return iter(self._ended)

    def asked(self, job: Job) -> RequestSummary:
        """What the job asks for."""
        if job not in self._asked:
            if job.ended_at is not None:
                return summary_of(job.pop)
            self._asked[job] = summary_of(job.pop)
        return self._asked[job]

    def view(self, job: Job, *, left_s: float | None = None) -> JobView:
        """The job as it stands."""
        asked, offset = self.asked(job), self._wall() - self._clock()
        step, of_steps = job.progress if job.stage in BEFORE_RENDERED else (0, 0)
        return JobView(
            id=job.id,
            model=asked.model,
            kind=asked.kind,
            features=asked.features,
            details=asked.details,
            width=job.request.width if job.request else asked.width,
            height=job.request.height if job.request else asked.height,
            steps=job.request.steps if job.request else asked.steps,
            images=asked.images,
            sampler=asked.sampler,
            stage=job.stage.value,
            popped_at=job.popped_at + offset,
            deadline=job.deadline + offset,
            slot=job.slot,
            begun_at=None if job.started_at is None else job.started_at + offset,
            rendered_at=None if job.rendered_at is None else job.rendered_at + offset,
            step=step,
            of_steps=of_steps,
            left_s=left_s,
        )

    def _record(self, job: Job, stage: Stage) -> JobRecord:
        view = self.view(job)
        ended_at = self._wall()
        return JobRecord(
            id=job.id,
            model=view.model,
            kind=view.kind,
            features=view.features,
            width=view.width,
            height=view.height,
            steps=view.steps,
            images=view.images,
            delivered=job.delivered,
            kudos=job.kudos,
            outcome=outcome_of(job, stage),
            popped_at=view.popped_at,
            ended_at=ended_at,
            slot=job.slot,
            stages=self._stages(job),
            blame=blame_of(job) if job.fault else "",
            sentence=quote(job.error.message if job.error else job.fault, longest=LONGEST_REASON),
            remedy=_remedy(job),
        )

    def _stages(self, job: Job) -> StageTimes:
        entered = self._entered.get(job, {})
        fetching, rendering = entered.get(Stage.FETCHING), entered.get(Stage.RENDERING)
        now = self._clock()

        def span(begin: float | None, end: float | None) -> float:
            return 0.0 if begin is None else max(0.0, (now if end is None else end) - begin)

        return StageTimes(
            pop=span(job.popped_at, job.received_at),
            fetch=span(fetching, rendering),
            wait=span(rendering, job.started_at),
            render=span(job.started_at, job.rendered_at),
            **job.delivery_s,
        )


def _remedy(job: Job) -> str:
    if job.error is None:
        return ""
    return quote(job.error.remedy or after_fault(job.error).owner, longest=LONGEST_REASON)
