"""Keep popped ids on disk until they are answered, and the times of faults.

After a crash the next start reports the ids that were left open. The Horde counts the faults of the last hour, also
over restarts, and so does the worker.

One JSON line for each event: `{"popped": [ids], "until": seconds since 1970}`, `{"answered": [ids]}`, `{"faulted":
[seconds since 1970]}`. An id that was popped and never answered counts as a fault when its time is over. A line is
written before its job begins, which survives the end of the process, and synced a moment later, which survives the end
of the machine. Lines that can't be read, such as the last one before a crash, are skipped.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from loguru import logger

from worker.aio import meanwhile
from worker.errors import HordeError, HordeUnreachable, InputRefused, JobGone
from worker.horde.messages import SubmitRequest, SubmitResponse
from worker.jobs.job import Job, JobEvent, JobEvents, Stage
from worker.units import counted
from worker.untrusted.json_reader import JsonBounds, read_json_object

FILE_NAME = "journal.jsonl"
#: Seconds for which the Horde counts a fault.
HOUR_S = 3600.0
#: Lines after which the file is rewritten with the open ids only.
COMPACT_AFTER_LINES = 2_000
#: Bytes read of an old journal; rewriting keeps real ones far below.
LONGEST_BYTES = 8 * 1024 * 1024
#: Open ids kept.
MOST_OPEN = 10_000
#: Lines read of an old journal, from its end; a real one has fewer.
MOST_LINES = 10 * COMPACT_AFTER_LINES
LINE_BOUNDS = JsonBounds(max_bytes=1024 * 1024, max_values=2 * MOST_OPEN, max_depth=4)
#: Longest ttl of a job in seconds; an id that claims to be open for longer has a wrong date.
LONGEST_TTL_S = 86_400.0
#: Seconds that a fault may lie in the future: clocks are set now and then.
CLOCK_SLACK_S = 60.0
#: Faults kept; the Horde allows far fewer.
MOST_FAULTS = 100


class Journal:
    """Subscribe `note` to the job events and `note_answer` to the answers. One process at a time may have it open."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Read what an earlier run left, and start a file with that. Raises OSError."""
        self._path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        #: id -> the moment (seconds since 1970) after which no answer counts
        self._open: dict[str, float] = {}
        #: when images were faulted or became late, in the last hour: seconds since 1970
        self._faults: list[float] = []
        self._read()
        self._lines = 0
        self._syncing: asyncio.Future[None] | None = None
        self._sync_again = False
        #: None after a failure, until it can be written anew
        self._file: TextIO | None = None
        self._failed = False
        self._begin()

    @property
    def open_ids(self) -> dict[str, float]:
        """Ids without an answer → seconds since 1970 until which one counts."""
        return dict(self._open)

    def faults_ago_s(self) -> list[float]:
        """Seconds since each fault of the last hour, oldest first. Ids left open count as faults of now."""
        now = self._clock()
        return sorted((max(now - at, 0.0) for at in (*self._faults, *self._open.values())), reverse=True)

    def note(self, event: JobEvent) -> None:
        """Record a pop, or the faults of a job. Called on the event loop."""
        job = event.job
        if event.stage is Stage.POPPED:
            until = self._clock() + job.pop.ttl
            self._open |= dict.fromkeys(job.pop.job_ids[: max(0, MOST_OPEN - len(self._open))], until)
            self._write({"popped": job.pop.job_ids, "until": round(until, 3)})
            self._sync_soon()
        elif event.stage is Stage.FAULTED:
            self.note_faults(job.counted_faults)

    def note_faults(self, count: int) -> None:
        """`count` images were reported as faulted."""
        if times := [round(self._clock(), 3)] * count:
            self._faults += times
            self._write({"faulted": times})

    def note_answer(self, _: Job, job_id: str) -> None:
        """One image has its answer; others of its batch may stay open for long."""
        self.strike([job_id])

    def strike(self, ids: Iterable[str]) -> None:
        """Remove ids that have an answer or need none any more."""
        answered = [id_ for id_ in ids if self._open.pop(id_, None) is not None]
        if answered:
            self._write({"answered": answered})

    async def close(self) -> None:
        """Sync everything to the disk and close the file."""
        while self._syncing is not None:
            await asyncio.wait([self._syncing])
        self._drop_file()

    def _write(self, line: dict[str, Any]) -> None:
        with self._surviving():
            if self._file is not None:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
                self._lines += 1
            self._renew()

    def _renew(self) -> None:
        """Rewrite the file when it has grown long, or after a failure."""
        # Windows replaces no file that is open, as it is for a sync.
        if self._syncing is None and (self._file is None or self._lines >= COMPACT_AFTER_LINES):
            self._begin()

    def _begin(self) -> None:
        """Replace the file by one with what still counts; the old one stays until the new one is complete."""
        self._expire()
        lines: list[dict[str, Any]] = [{"popped": [id_], "until": round(until, 3)} for id_, until in self._open.items()]
        if self._faults:
            lines.append({"faulted": self._faults})
        draft = self._path.with_name(f".{self._path.name}")
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        self._drop_file()
        draft.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8")
        self._lines = len(lines)
        self._failed = False

    def _expire(self) -> None:
        now = self._clock()
        late = {id_: until for id_, until in self._open.items() if until <= now}
        for id_ in late:
            del self._open[id_]
        # Dated in the future is a fault only by a clock that was wrong: it would hold the worker back for an hour.
        counts = [at for at in (*self._faults, *late.values()) if now - HOUR_S < at <= now + CLOCK_SLACK_S]
        self._faults = sorted(counts)[-MOST_FAULTS:]

    def _read(self) -> None:
        """Read what an earlier run left; nothing from a file that is absent or unreadable."""
        try:
            with self._path.open("rb") as file:
                text = file.read(LONGEST_BYTES).decode("utf-8", "replace")
        except OSError:
            return
        for line in text.splitlines()[-MOST_LINES:]:
            try:
                self._adopt(read_json_object(line, LINE_BOUNDS))
            except (InputRefused, ValueError, TypeError, KeyError):
                continue

    def _adopt(self, line: dict[str, Any]) -> None:
        """Take over one line of an earlier run. Raises ValueError, TypeError, KeyError for what makes no sense."""
        if "popped" in line:
            until = min(float(line["until"]), self._clock() + LONGEST_TTL_S)
            for id_ in line["popped"][: max(0, MOST_OPEN - len(self._open))]:
                self._open[str(id_)] = until
        for id_ in line.get("answered", ()):
            self._open.pop(str(id_), None)
        self._faults += map(float, line.get("faulted", ()))

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Go on when the disk fails: only a crash needs the journal. The next event tries again."""
        try:
            yield
        except OSError as error:
            self._drop_file()
            if not self._failed:
                logger.bind(action="journal_failed").error("The journal {} can't be written: {}", self._path, error)
            self._failed = True

    def _drop_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            # It writes what could not be written, once more and likely in vain.
            with contextlib.suppress(OSError):
                file.close()

    def _sync_soon(self) -> None:
        """Sync in a thread, one at a time; what is written meanwhile gets the next one."""
        if self._syncing is not None:
            self._sync_again = True
            return
        self._sync_again = False
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            # A descriptor of its own: the file may be given up before the thread comes to it.
            handle = os.dup(self._file.fileno())
            self._syncing = asyncio.get_running_loop().run_in_executor(None, _sync, handle)
            self._syncing.add_done_callback(self._synced)

    def _synced(self, _: object) -> None:
        self._syncing = None
        with self._surviving():
            self._renew()
        if self._sync_again:
            self._sync_soon()


class TakesAnswers(Protocol):
    """The part of the Horde's client that answers jobs."""

    async def submit(self, request: SubmitRequest, *, deadline: float) -> SubmitResponse:
        """Answer one id, tried again until `deadline` on the event loop's clock. Raises HordeError."""


@asynccontextmanager
async def journalled(journal: Journal | None, events: JobEvents, horde: TakesAnswers) -> AsyncIterator[None]:
    """Keep the journal of all jobs in the block, and report the ids that it held before. None: do nothing."""
    if journal is None:
        yield
        return
    events.subscribe(journal.note)
    events.answers.subscribe(journal.note_answer)
    try:
        async with meanwhile(report_left(journal, horde)):
            yield
    finally:
        await journal.close()


async def report_left(journal: Journal, horde: TakesAnswers, *, clock: Callable[[], float] = time.time) -> None:
    """Report the ids that an earlier run left open as faulted, each until its own time is over."""
    left = journal.open_ids
    if not left:
        return
    logger.bind(action="journal_left", ids=list(left)).warning(
        "An earlier run left {} unanswered, which will be reported as faulted.", counted(len(left), "image")
    )
    loop = asyncio.get_running_loop()

    async def report(id_: str, until: float) -> None:
        submission = SubmitRequest(id=id_, generation="faulted", state="faulted", seed=0)
        try:
            await horde.submit(submission, deadline=loop.time() + max(until - clock(), 0.0))
            journal.note_faults(1)
        except JobGone as gone:
            logger.debug("{}: {}", id_, gone)
        except HordeUnreachable as error:
            logger.warning("{} could not be reported: {}", id_, error)
            return
        except HordeError as error:
            logger.warning("The Horde takes no report of {}: {}", id_, error)
        journal.strike([id_])

    await asyncio.gather(*(report(id_, until) for id_, until in left.items()))


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        logger.warning("The journal could not be brought to the disk: {}", error)
    finally:
        os.close(handle)
