"""When each engine will run dry, from what jobs under way have left to do. Learns from every job that ends."""

import asyncio
from collections.abc import Collection, Iterable

from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling.estimates.speed import Speed
from worker.workflows.request import ServedModel

#: A job that took so many times its estimate also loaded a model or waited for something; it says little of speed.
OUTLIER = 3.0


class Forecast:
    """Subscribe `note` to the job events."""

    def __init__(self) -> None:
        self._speed = Speed()
        #: jobs that need an engine, in the order they asked, with the seconds they need in all
        self._needs: dict[Job, float | None] = {}

    def note(self, event: JobEvent) -> None:
        job = event.job
        match event.stage:
            case Stage.RENDERING:
                self._needs[job] = self._speed.estimate(job.request) if job.request else None
            case Stage.DELIVERING:
                estimate = self._needs.pop(job, None)
                self._learn(job, estimate)
            case Stage.DONE | Stage.FAULTED:
                if job in self._needs:
                    self._learn_from_unfinished(job, self._needs.pop(job))

    def idle_in_s(self, slots: Collection[int]) -> dict[int, float]:
        """Seconds until each of these slots has nothing to do, those who wait for a place counted in.

        A job whose time is unknown counts as nothing: asking too early costs less than an idle engine.
        """
        return share_out(slots, self._left())

    def work_in_s(self, slots: Collection[int]) -> dict[int, float]:
        """The same without those who have no place yet."""
        return share_out(slots, [(slot, seconds) for slot, seconds in self._left() if slot is not None])

    def _left(self) -> list[tuple[int | None, float]]:
        now = asyncio.get_running_loop().time()
        return [(job.slot, _left_s(job, need, now)) for job, need in self._needs.items()]

    def unit_s(self, model: ServedModel) -> float | None:
        """Seconds that a megapixelstep of this model takes; None as long as nothing is certain."""
        return self._speed.unit_s(model)

    def _learn(self, job: Job, estimate: float | None) -> None:
        if job.request is None or job.started_at is None or job.rendered_at is None:
            return
        seconds = job.rendered_at - job.started_at
        if estimate is None or seconds < OUTLIER * estimate:
            self._speed.learn(job.request, seconds)
        else:
            self._speed.learn(job.request, OUTLIER * estimate)

    def _learn_from_unfinished(self, job: Job, estimate: float | None) -> None:
        """A job that was too slow to be done in time teaches most: else the next one is no better."""
        done, total = job.progress
        if job.request is None or job.started_at is None or job.ended_at is None or not 0 < done <= total:
            return
        seconds = (job.ended_at - job.started_at) * total / done
        if estimate is None or seconds > estimate:
            self._speed.learn(job.request, seconds, finished=False)


def share_out(slots: Collection[int], jobs: Iterable[tuple[int | None, float]]) -> dict[int, float]:
    """Seconds of work for each slot. Jobs are (slot or None, seconds): who has no slot gets the first to be free."""
    work = dict.fromkeys(slots, 0.0)
    homeless: list[float] = []
    for slot, seconds in jobs:
        if slot in work:
            work[slot] += seconds
        else:
            homeless.append(seconds)
    for seconds in homeless:
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
