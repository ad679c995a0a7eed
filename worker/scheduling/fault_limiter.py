"""When not to ask for jobs because too many came to nothing.

The Horde puts a worker into maintenance at its 21st fault or late answer within an hour, and then it stays there
until its owner looks; pausing in time costs minutes.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from worker.circuit_breaker import CircuitBreaker
from worker.clock import Clock, monotonic
from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling.wait_log import WaitKind, WaitReason

HOUR_S = 3600.0
#: Window of recent jobs for the failure rate.
RECENT_JOBS = 20
#: Of those under way twice as many may fail as of late, and some of a hundred in the best of times.
CAUTION, LEAST_RISK = 2.0, 0.01


@dataclass
class FaultLimiter:
    """Pauses after faults in a row, and before too many within an hour. Subscribe `note` to the job events."""

    in_a_row: int = 3
    row_pause_s: float = 180.0
    #: of the server's 20, with some left for answers that come too late unnoticed
    per_hour: int = 15
    #: the same, with those that images under way may bring
    with_expected: int = 18
    #: a delivery that takes longer than this may come to nothing
    slow_delivery_s: float = 30.0
    clock: Clock = monotonic
    _faults: deque[float] = field(default_factory=deque, init=False)
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT_JOBS), init=False)

    def __post_init__(self) -> None:
        self._row = CircuitBreaker(limit=self.in_a_row, open_s=self.row_pause_s)

    def note(self, event: JobEvent) -> None:
        job = event.job
        if event.stage is Stage.FAULTED:
            now = self.clock()
            if job.counted_faults and job.brakes:
                self._recent.append(True)
                self._row.failed(now)
            # Of those still owed the Horde heard nothing: no fault of the worker's, but late all the same.
            self.count(job.counted_faults + len(job.owed))
        elif event.stage is Stage.DONE:
            self._recent.append(False)
            self._row.succeeded()

    def count(self, images: int, *, ago_s: float = 0.0) -> None:
        """So many images came too late, or were faulted in an earlier run: the Horde counts them. The oldest first."""
        self._faults.extend([self.clock() - ago_s] * images)

    def is_in_a_row(self) -> bool:
        """Whether the last jobs, and not only many, were faulted."""
        return self._row.is_open(self.clock())

    def wait(self) -> WaitReason | None:
        """Why no more jobs should be taken; None when all is well."""
        now = self.clock()
        self._forget(now)
        if len(self._faults) >= self.per_hour:
            until = self._faults[len(self._faults) - self.per_hour] + HOUR_S
            sentence = f"{len(self._faults)} images were faulted or late within an hour; the Horde allows 20."
        elif self._row.is_open(now):
            until, sentence = self._row.open_until, f"{self.in_a_row} jobs in a row were faulted."
        else:
            return None
        return WaitReason(WaitKind.FAULTS, sentence, until, remedy="The log says why each was.")

    def images_left(self, jobs: Iterable[Job], *, asked: int) -> int:
        """So many more images may be asked for, with these jobs under way and `asked` images that pops may bring."""
        now, under_way, failing = self.clock(), asked, 0
        self._forget(now)
        for job in jobs:
            if job.is_lost or (job.rendered_at is not None and now - job.rendered_at > self.slow_delivery_s):
                failing += len(job.pop.job_ids) - job.delivered
            else:
                under_way += len(job.owed)
        left = max(self.with_expected - len(self._faults) - failing, 0)
        return max(int(left / self._risk(under_way, failing)) - under_way, 0)

    def _risk(self, under_way: int, failing: int) -> float:
        """The share of the images under way that may fail: all, until the last job says otherwise."""
        if not self._recent or self._recent[-1]:
            return 1.0
        ended, current = sum(self._recent) / len(self._recent), failing / max(failing + under_way, 1)
        return min(max(CAUTION * max(ended, current), LEAST_RISK), 1.0)

    def _forget(self, now: float) -> None:
        while self._faults and self._faults[0] <= now - HOUR_S:
            self._faults.popleft()
