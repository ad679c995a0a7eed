"""The jobs of a session: what each asks for, the seconds of its stages, and how it ended. Bounded."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
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


@dataclass(eq=False)
class JobBook:
    """Subscribe `note` to the job events."""

    clock: Clock = monotonic
    wall: Callable[[], float] = time.time
    session: SessionStats = field(default_factory=SessionStats, init=False)
    hours: Hours = field(default_factory=Hours, init=False)
    _asked: dict[Job, RequestSummary] = field(default_factory=dict, init=False)
    #: when a job came to its stages, on the clock
    _entered: dict[Job, dict[Stage, float]] = field(default_factory=dict, init=False)
    _ended: deque[JobRecord] = field(default_factory=lambda: deque(maxlen=MOST_JOBS), init=False)
    _end_listeners: list[EndListener] = field(default_factory=list, init=False)

    def on_end(self, listener: EndListener) -> None:
        self._end_listeners.append(listener)

    def note(self, event: JobEvent) -> None:
        job, stage = event.job, event.stage
        self._entered.setdefault(job, {})[stage] = self.clock()
        if stage in {Stage.DONE, Stage.FAULTED}:
            record, one = self._record(job, stage), tally_of(job, stage)
            self.session.ended(job, one, record.stages)
            self._asked.pop(job, None)
            self._entered.pop(job, None)
            self._ended.appendleft(record)
            self.hours.add(record.ended_at, record.model, record.features, one)
            for listener in self._end_listeners:
                listener(record)

    def restore(self, records: list[JobRecord]) -> None:
        """Jobs of earlier runs, the latest first."""
        self._ended.extend(islice(records, MOST_JOBS - len(self._ended)))

    def ended(self) -> Iterator[JobRecord]:
        """Jobs that ended within a day, the latest first."""
        oldest = self.wall() - KEPT_S
        while self._ended and self._ended[-1].ended_at < oldest:
            self._ended.pop()
        return iter(self._ended)

    def _summary(self, job: Job) -> RequestSummary:
        """What the job asks for; sizes and steps as they will be made, once that is known."""
        asked = self._asked.get(job) or summary_of(job.pop)
        if job.ended_at is None:
            self._asked[job] = asked
        if request := job.request:
            asked = replace(asked, width=request.width, height=request.height, steps=request.steps)
        return asked

    def view(self, job: Job, *, left_s: float | None = None) -> JobView:
        offset = self.wall() - self.clock()
        step, of_steps = job.progress if job.stage in BEFORE_RENDERED else (0, 0)
        return JobView(
            id=job.id,
            **vars(self._summary(job)),
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
        ended_at = self.wall()
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
        now = self.clock()

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
