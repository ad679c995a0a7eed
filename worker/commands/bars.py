"""Downloads on a terminal: a bar for each file, or a line now and then where nobody watches."""

from pathlib import Path
from types import TracebackType

from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress

from worker.models.download.downloader import Progress, State

#: Without a terminal: a line for so many percent of a file.
PERCENT_STEP = 10


class Bars:
    """`note` is the downloader's listener."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._rich = RichProgress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
            TimeRemainingColumn(), console=self._console,
        )  # fmt: skip
        self._bars: dict[Path, TaskID] = {}
        self._told: dict[Path, int] = {}

    def __enter__(self) -> "Bars":  # noqa: PYI034 - Self is newer than Python 3.10
        if self._console.is_terminal:
            self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rich.stop()

    def note(self, progress: Progress) -> None:
        if self._console.is_terminal:
            self._draw(progress)
        elif progress.total and progress.state in (State.RUNNING, State.DONE):
            self._tell(progress.download.target, 100 * progress.done // progress.total)

    def _draw(self, progress: Progress) -> None:
        target = progress.download.target
        if target not in self._bars:
            self._bars[target] = self._rich.add_task(target.name)
        self._rich.update(self._bars[target], completed=progress.done, total=progress.total)
        if progress.state in (State.FAILED, State.STOPPED):
            self._rich.remove_task(self._bars.pop(target))

    def _tell(self, target: Path, percent: int) -> None:
        step = percent // PERCENT_STEP
        if step > self._told.get(target, -1):
            self._told[target] = step
            logger.info("{}: {} %", target.name, percent)
