"""When not to ask for jobs although there is room, and why. Pure: the caller brings the clock and the readings.

The Horde puts a worker into maintenance at its 21st fault or late answer within an hour, and then it stays there
until its owner looks; pausing in time costs minutes.
"""

from collections import deque
from dataclasses import dataclass, field

HOUR_S = 3600.0
GIB = 1024**3
#: So many of the last jobs tell how the next ones may end.
RECENT_JOBS = 20
#: Of those under way twice as many may fail as of late, and some of a hundred in the best of times.
CAUTION, LEAST_RISK = 2.0, 0.01


@dataclass
class FaultBrake:
    """Pauses after faults in a row, and before too many within an hour. Times are seconds of a monotonic clock."""

    in_a_row: int = 3
    row_pause_s: float = 180.0
    #: of the server's 20, with some left for answers that come too late unnoticed
    per_hour: int = 15
    #: the same, with those that images under way may bring
    with_expected: int = 18
    _faults: deque[float] = field(default_factory=deque, init=False)
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT_JOBS), init=False)
    _row: int = field(default=0, init=False)
    _row_until: float = field(default=0.0, init=False)

    def count(self, at: float, *, images: int = 1) -> None:
        """So many images came too late, or were faulted in an earlier run: the Horde counts them. In order of time."""
        self._faults.extend([at] * images)

    def faulted(self, now: float, *, images: int = 1) -> None:
        """So many images of a job were reported as faulted."""
        self.count(now, images=images)
        self._recent.append(True)
        self._row += 1
        if self._row >= self.in_a_row:
            self._row_until = now + self.row_pause_s
            self._row = 0

    def succeeded(self) -> None:
        self._recent.append(False)
        self._row = 0
        self._row_until = 0.0

    def is_in_a_row(self, now: float) -> bool:
        """Whether the last jobs, and not only many, were faulted."""
        return now < self._row_until

    def pause(self, now: float) -> tuple[float, str]:
        """Seconds to wait, with the reason; 0 and nothing when all is well."""
        self._forget(now)
        if len(self._faults) >= self.per_hour:
            wait_s = self._faults[len(self._faults) - self.per_hour] + HOUR_S - now
            return wait_s, f"{len(self._faults)} images were faulted or late within an hour; the Horde allows 20"
        if self.is_in_a_row(now):
            return self._row_until - now, f"{self.in_a_row} jobs in a row were faulted"
        return 0.0, ""

    def images_left(self, now: float, *, under_way: int, failing: int) -> int:
        """So many more images may be asked for, with these under way, and others that are as good as lost."""
        self._forget(now)
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


@dataclass(frozen=True)
class Floors:
    """What must be left free on this machine for another job to be taken. Bytes."""

    memory: int = GIB
    disk: int = GIB

    def reason(self, *, memory_free: int, disk_free: int) -> str:
        """Why no job is taken, or nothing."""
        if memory_free < self.memory:
            return f"only {memory_free / GIB:.1f} GiB of memory are free"
        if disk_free < self.disk:
            return f"only {disk_free / GIB:.1f} GiB of disk are free"
        return ""
