"""Popped ids on disk until they are answered, so that the start after a crash can report what was left open; and when
images were faulted, for the Horde counts those of the last hour whoever restarts in between.

One JSON line for each event: `{"popped": [ids], "until": seconds since 1970}`, `{"answered": [ids]}`, `{"faulted":
[seconds since 1970]}`. What was popped and never answered counts as faulted when its time is over. A line is in the
system's hands before its job begins, which outlives the death of the worker; it is on the disk a moment later, which
outlives that of the machine. Lines that make no sense, as the last one of a crash may, are passed over.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TextIO

from loguru import logger

from worker.errors import HordeError, HordeUnreachable, InputRefused, JobGone
from worker.horde.client import HordeClient
from worker.horde.messages import SubmitRequest
from worker.jobs.job import Job, JobEvent, JobEvents, Stage
from worker.untrusted.json_reader import JsonBounds, read_json_object

FILE_NAME = "journal.jsonl"
#: How long a fault counts for the Horde.
HOUR_S = 3600.0
#: Lines after which the file is written anew with the open ids only.
COMPACT_AFTER_LINES = 2_000
#: Bytes of an old journal that are read; compaction keeps real ones far below.
LONGEST_BYTES = 8 * 1024 * 1024
#: Open ids that are kept at most.
MOST_OPEN = 10_000
#: Lines of an old journal that are read, the last ones; twice what compaction leaves is the most there should be.
MOST_LINES = 10 * COMPACT_AFTER_LINES
LINE_BOUNDS = JsonBounds(max_bytes=1024 * 1024, max_values=2 * MOST_OPEN, max_depth=4)
#: The longest time to live that a job can have; what claims to be open for longer has a wrong date.
LONGEST_TTL_S = 86_400.0
#: A fault may be dated so much later than now, for clocks are set now and then.
CLOCK_SLACK_S = 60.0
#: Faults that are kept at most; the Horde allows far fewer.
MOST_FAULTS = 100


class Journal:
    """Subscribe `note` to the job events and `note_answer` to the answers. One process at a time may have it open."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Reads what an earlier run left, and begins a file with only that. Raises OSError."""
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
        """Ids without an answer, each with the moment after which none counts."""
        return dict(self._open)

    def faults_ago_s(self) -> list[float]:
        """Seconds since each fault of the last hour, the oldest first. What an earlier run left open is one of now."""
        now = self._clock()
        return sorted((max(now - at, 0.0) for at in (*self._faults, *self._open.values())), reverse=True)

    def note(self, event: JobEvent) -> None:
        """Write down what the event means for the job's ids. Called on the event loop."""
        job = event.job
        if event.stage is Stage.POPPED:
            until = self._clock() + job.pop.ttl
            self._open |= dict.fromkeys(job.pop.job_ids[: max(0, MOST_OPEN - len(self._open))], until)
            self._write({"popped": job.pop.job_ids, "until": round(until, 3)})
            self._sync_soon()
        elif event.stage is Stage.FAULTED:
            self.note_faults(job.faulted)

    def note_faults(self, count: int) -> None:
        """So many images were reported as faulted."""
        if times := [round(self._clock(), 3)] * count:
            self._faults += times
            self._write({"faulted": times})

    def note_answer(self, _: Job, job_id: str) -> None:
        """One image has its answer; the others of its batch may be open for long."""
        self.strike([job_id])

    def strike(self, ids: Iterable[str]) -> None:
        """These have their answer, or want none any more."""
        answered = [id_ for id_ in ids if self._open.pop(id_, None) is not None]
        if answered:
            self._write({"answered": answered})

    async def close(self) -> None:
        """All that was written is on the disk afterwards."""
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
        """Write the file anew when it has grown long or was given up."""
        # Windows replaces no file that is open, as it is for a sync.
        if self._syncing is None and (self._file is None or self._lines >= COMPACT_AFTER_LINES):
            self._begin()

    def _begin(self) -> None:
        """A new file with what still counts, in the place of the old one, which stays until the new one is whole."""
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
        """Take over what an earlier run left. A file that is absent or unreadable has nothing."""
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
        """Jobs go on when the disk fails: without a journal only a crash costs anything. The next event tries anew."""
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
        """One sync at a time, off the loop; what is written meanwhile gets the next one."""
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


@asynccontextmanager
async def journalled(journal: Journal | None, events: JobEvents, horde: HordeClient) -> AsyncIterator[None]:
    """Keeps the journal of all jobs in the block, and reports meanwhile what it held before. Without one: nothing."""
    if journal is None:
        yield
        return
    events.subscribe(journal.note)
    events.subscribe_answers(journal.note_answer)
    reporting = asyncio.ensure_future(report_left(journal, horde))
    try:
        yield
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
        await journal.close()


async def report_left(journal: Journal, horde: HordeClient, *, clock: Callable[[], float] = time.time) -> None:
    """Tell the Horde that the ids an earlier run left open will not come; each until its own time is over."""
    left = journal.open_ids
    if not left:
        return
    logger.bind(action="journal_left", ids=list(left)).warning(
        "An earlier run left {} image(s) unanswered; they are reported as faulted.", len(left)
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
