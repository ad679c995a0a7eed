"""When the engines will run dry, from what jobs under way have left to do. Learns from every job that ends."""

from worker.jobs.job import Job, JobEvent, Stage
from worker.jobs.speed import Average, Speed

#: A job that took so many times its estimate also loaded a model or waited for something; it says little of speed.
OUTLIER = 3.0


class Forecast:
    """Subscribe `note` to the job events."""

    def __init__(self) -> None:
        self._speed = Speed()
        self._left: dict[Job, float | None] = {}
        self._image_s = Average()

    def note(self, event: JobEvent) -> None:
        job = event.job
        match event.stage:
            case Stage.RENDERING:
                self._left[job] = self._speed.estimate(job.request) if job.request else None
            case Stage.DELIVERING:
                estimate = self._left.pop(job, None)
                self._learn(job, estimate)
            case Stage.DONE | Stage.FAULTED:
                self._left.pop(job, None)

    def idle_in_s(self, engines: int) -> float:
        """Seconds until the first engine has nothing to do; 0 as soon as any job's time is unknown."""
        left = 0.0
        for job, estimate in self._left.items():
            if estimate is None:
                return 0.0
            done, total = job.progress
            left += estimate * (1 - done / total if total else 1)
        return left / max(engines, 1)

    def images_within(self, seconds: float) -> int:
        """Images that one engine makes in so many seconds, by the jobs so far; many while nothing is known."""
        return 10**6 if self._image_s.value is None else int(seconds / max(self._image_s.value, 1e-3))

    def _learn(self, job: Job, estimate: float | None) -> None:
        if job.request is None or job.started_at is None or job.rendered_at is None:
            return
        seconds = job.rendered_at - job.started_at
        self._image_s.add(seconds / job.request.batch)
        if estimate is None or seconds < OUTLIER * estimate:
            self._speed.learn(job.request, seconds)
        else:
            self._speed.learn(job.request, OUTLIER * estimate)
