"""How far the models have come: what downloads report, as one state for whoever shows it, and as lines for the log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from worker.clock import Clock, monotonic
from worker.models.download.downloader import DownloadProgress, DownloadState
from worker.units import GIB, MIB

#: Seconds over which the speed is averaged.
WINDOW_S: Final = 20.0


@dataclass(frozen=True)
class ModelsState:
    """All models at one moment. `left_s` None: unknown."""

    #: models that are served, in the owner's order
    ready: tuple[str, ...] = ()
    #: models that are being fetched, or will be
    waiting: tuple[str, ...] = ()
    #: models that can't be fetched or used, with the reason
    failed: Mapping[str, str] = field(default_factory=dict)
    #: files that are being fetched now
    downloads: tuple[DownloadProgress, ...] = ()
    bytes_per_s: float = 0.0
    left_s: float | None = None
    #: sentences on what the owner wants and is not there: a name that no model has, lists that can't be read
    doubts: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = len(self.ready) + len(self.waiting) + len(self.failed)
        text = f"{len(self.ready)} of {count} models are here"
        if self.downloads:
            text += "; " + ", ".join(_shown(progress) for progress in self.downloads)
            text += f"; {self.bytes_per_s / MIB:.1f} MiB/s"
        if self.left_s is not None:
            text += f", {_duration(self.left_s)} left"
        return text


class DownloadReport:
    """Sums up what downloads report to `note`. `plan` sets the bytes still to come."""

    def __init__(self, now_s: Clock = monotonic) -> None:
        self._now_s = now_s
        self._running: dict[Path, DownloadProgress] = {}
        self._samples: list[tuple[float, int]] = []
        self._arrived = 0
        self._planned = 0

    def plan(self, planned_bytes: int) -> None:
        """Count from here on towards `planned_bytes`."""
        self._planned = planned_bytes
        self._arrived = 0
        self._samples.clear()

    def note(self, progress: DownloadProgress) -> None:
        target = progress.download.target
        before = self._running.get(target)
        if progress.state is DownloadState.RUNNING:
            # Bytes that an earlier run left on disk did not arrive now.
            self._count(progress.done - before.done if before else 0)
            self._running[target] = progress
        elif progress.state is not DownloadState.WAITING:
            if before and progress.state is DownloadState.DONE:
                self._count(progress.done - before.done)
            self._running.pop(target, None)

    @property
    def downloads(self) -> tuple[DownloadProgress, ...]:
        return tuple(self._running.values())

    @property
    def bytes_per_s(self) -> float:
        if len(self._samples) < 2 or not self._running:  # noqa: PLR2004 - a speed lies between two points
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return max(0.0, last - first) / max(last_s - first_s, 1e-3)

    @property
    def left_s(self) -> float | None:
        speed = self.bytes_per_s
        return (self._planned - self._arrived) / speed if speed and self._planned > self._arrived else None

    def _count(self, count: int) -> None:
        now_s = self._now_s()
        self._arrived += max(0, count)
        self._samples.append((now_s, self._arrived))
        while self._samples and now_s - self._samples[0][0] > WINDOW_S:
            del self._samples[0]


def _shown(progress: DownloadProgress) -> str:
    name, total = progress.download.target.name, progress.total
    if not total:
        return f"{name} {progress.done / MIB:.0f} MiB"
    return f"{name} {100 * progress.done / total:.0f} % of {total / GIB:.1f} GiB"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"  # noqa: PLR2004
