"""When each engine will run dry, from what the jobs under way have left to do."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from worker.clock import Clock, monotonic
from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling.estimates.speed import JobTimes

#: A job that took so many times its estimate also loaded a model or waited for something; it says little of speed.
OUTLIER = 3.0


@dataclass(eq=False)
class Forecast:
    """Learns from every job that is rendered. Subscribe `note` to the job events."""

    times: JobTimes
    clock: Clock = monotonic
    #: jobs that need an engine, in the order they asked, with the seconds they need in all
    _needs: dict[Job, float | None] = field(default_factory=dict, init=False)

    def note(self, event: JobEvent) -> None:
        """Follow a job from stage to stage."""
        job = event.job
        match event.stage:
            case Stage.RENDERING:
                self._needs[job] = self.times.estimate(job.request) if job.request else None
            case Stage.DELIVERING:
                self._learn(job, self._needs.pop(job, None))
            case Stage.DONE | Stage.FAULTED:
                self._needs.pop(job, None)

    def idle_in_s(self, slots: Collection[int]) -> dict[int, float]:
        """Seconds until each of these slots has nothing to do, those who wait for a place counted in.

        A job whose time is unknown counts as nothing: asking too early costs less than an idle engine.
        """
        return share_out(slots, self._left())

    def work_in_s(self, slots: Collection[int]) -> dict[int, float]:
        """The same without those who have no place yet."""
        return share_out(slots, [(slot, seconds) for slot, seconds in self._left() if slot is not None])

    def left_s(self, job: Job) -> float | None:
        """Seconds of an engine that the job still needs; None while nothing is known."""
        need = self._needs.get(job)
        return None if need is None else _left_s(job, need, self.clock())

    def _left(self) -> list[tuple[int | None, float]]:
        now = self.clock()
        return [(job.slot, _left_s(job, need, now)) for job, need in self._needs.items()]

    def _learn(self, job: Job, estimate: float | None) -> None:
        if job.request is None or job.started_at is None or job.rendered_at is None:
            return
        seconds = job.rendered_at - job.started_at
        self.times.learn(job.request, seconds if estimate is None else min(seconds, OUTLIER * estimate))


def share_out(slots: Collection[int], jobs: Iterable[tuple[int | None, float]]) -> dict[int, float]:
    """Seconds of work for each slot. Jobs are (slot or None, seconds): without a slot it gets the first to be free."""
    work = dict.fromkeys(slots, 0.0)
    waiting: list[float] = []
    for slot, seconds in jobs:
        if slot in work:
            work[slot] += seconds
        else:
            waiting.append(seconds)
    for seconds in waiting:
        if work:
            first = min(work, key=work.__getitem__)
            work[first] += seconds
    return work


def _left_s(job: Job, need: float | None, now: float) -> float:
    """Seconds of an engine that a job still needs: by its steps while it samples, else by its time so far."""
    if need is None:
        return 0.0
    done, total = job.progress
    if 0 < done < total:
        return need * (1 - done / total)
    return need if job.started_at is None else max(0.0, need - (now - job.started_at))
