"""What outlives a run of the worker, in one small file: jobs of a day, sums by hour, the owner's pause.

Nothing depends on it. A file that can't be read is put aside and begun anew; a disk that is full or read-only, or a
file that another program holds, is told once, and the worker goes on with what it has in memory. Called in threads.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from loguru import logger
from pydantic import TypeAdapter, ValidationError

from worker.errors import InputRefused
from worker.status.as_json import adapter, dumps, plain
from worker.status.hourly_counts import MOST_HOURS
from worker.status.job_book import KEPT_S, MOST_JOBS
from worker.status.snapshot import HourOfWork, JobRecord
from worker.untrusted.json_reader import JsonBounds, read_json_object

FILE_NAME = "history.sqlite3"
#: Of the tables; a file of another version is put aside.
VERSION = 1
#: Seconds to wait for another program that holds the file.
LOCK_LIMIT_S = 1.0
#: Pages of 4 KiB at most: 64 MiB, ten times what a day of jobs takes.
MOST_PAGES = 16_384
ROW_BOUNDS = JsonBounds(max_bytes=256 * 1024, max_values=5_000, max_depth=6)
#: Words of sqlite's errors that speak of the disk or of another program, and not of what is in the file.
PASSING = ("locked", "busy", "readonly", "read-only", "unable to open", "full", "disk i/o", "permission")
TABLES = """
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, ended_at REAL NOT NULL, content TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (ended_at);
CREATE TABLE IF NOT EXISTS hours (begins_at REAL PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pause (one INTEGER PRIMARY KEY CHECK (one = 1), until REAL);
"""

T = TypeVar("T")


@dataclass(frozen=True)
class KeptPause:
    """A pause of the owner's; `until` in seconds since 1970, None without an end."""

    until: float | None


@dataclass(frozen=True)
class Kept:
    """What an earlier run left: jobs from the latest on, hours, the pause if one was on."""

    jobs: list[JobRecord] = field(default_factory=list)
    hours: list[HourOfWork] = field(default_factory=list)
    pause: KeptPause | None = None


@dataclass
class History:
    """One process at a time writes to it. What it keeps is what the job book and its hours do."""

    file: Path
    _told: bool = field(default=False, init=False)

    def load(self, now: float) -> Kept:
        """What an earlier run left; nothing where there is none, or none that can be read. Never raises."""
        try:
            return self._load(now)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return Kept()

    def save(self, jobs: Iterable[JobRecord], hours: Iterable[HourOfWork], pause: KeptPause | None, now: float) -> bool:
        """Keep these besides what is kept; whether that went well. Never raises."""
        try:
            with self._open() as base, base:
                base.executemany(
                    "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)",
                    [(job.id, job.ended_at, dumps(plain(job))) for job in jobs],
                )
                base.executemany(
                    "INSERT OR REPLACE INTO hours VALUES (?, ?)",
                    [(hour.begins_at, dumps(plain(hour))) for hour in hours],
                )
                base.execute("DELETE FROM pause")
                if pause is not None:
                    base.execute("INSERT INTO pause VALUES (1, ?)", (pause.until,))
                self._forget(base, now)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return False
        self._told = False
        return True

    def _load(self, now: float) -> Kept:
        if not self.file.exists():
            return Kept()
        with self._open() as base:
            if (found := base.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
                raise sqlite3.DatabaseError(f"it is damaged: {found}")
            jobs = base.execute(
                "SELECT content FROM jobs WHERE ended_at > ? ORDER BY ended_at DESC LIMIT ?",
                (now - KEPT_S, MOST_JOBS),
            ).fetchall()
            hours = base.execute("SELECT content FROM hours ORDER BY begins_at DESC LIMIT ?", (MOST_HOURS,)).fetchall()
            pause = base.execute("SELECT until FROM pause").fetchone()
        return Kept(
            list(_read(jobs, adapter(JobRecord))),
            list(_read(hours, adapter(HourOfWork))),
            KeptPause(pause[0]) if pause and isinstance(pause[0], float | None) else None,
        )

    def _forget(self, base: sqlite3.Connection, now: float) -> None:
        base.execute("DELETE FROM jobs WHERE ended_at <= ?", (now - KEPT_S,))
        base.execute(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs ORDER BY ended_at DESC LIMIT -1 OFFSET ?)",
            (MOST_JOBS,),
        )
        base.execute(
            "DELETE FROM hours WHERE begins_at IN (SELECT begins_at FROM hours ORDER BY begins_at DESC"
            " LIMIT -1 OFFSET ?)",
            (MOST_HOURS,),
        )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The file with its tables. One of a version that is not ours raises sqlite3.DatabaseError."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.file, timeout=LOCK_LIMIT_S)) as base:
            base.execute("PRAGMA synchronous = NORMAL")
            base.execute(f"PRAGMA max_page_count = {MOST_PAGES}")
            (version,) = base.execute("PRAGMA user_version").fetchone()
            if version not in {0, VERSION}:
                raise sqlite3.DatabaseError(f"it is of version {version}")
            if version == 0:
                base.executescript(TABLES)
                base.execute(f"PRAGMA user_version = {VERSION}")
            yield base

    def _failed(self, error: sqlite3.Error | OSError) -> None:
        if isinstance(error, sqlite3.Error) and not _passes(error):
            self._put_aside(error)
        else:
            self._tell(error)

    def _put_aside(self, error: Exception) -> None:
        aside = self.file.with_name(f"{self.file.name}.broken")
        try:
            self.file.replace(aside)
            for rest in ("-journal", "-wal", "-shm"):
                self.file.with_name(self.file.name + rest).unlink(missing_ok=True)
        except OSError as trouble:
            self._tell(trouble)
            return
        logger.bind(action="history_broken").warning(
            "The history in {} can't be read ({}); it is put aside as {}, and a new one begins.",
            self.file,
            error,
            aside.name,
        )

    def _tell(self, error: Exception) -> None:
        """Once for each time that it fails."""
        if not self._told:
            self._told = True
            logger.bind(action="history_failed").warning(
                "The history can't be kept in {}, and ends with this run: {}. Check the disk and the permissions.",
                self.file,
                error,
            )


def _passes(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.OperationalError) and any(word in str(error).lower() for word in PASSING)


def _read(rows: Iterable[tuple[Any]], adapter: "TypeAdapter[T]") -> Iterator[T]:
    """The rows that make sense."""
    for (content,) in rows:
        try:
            yield adapter.validate_python(read_json_object(str(content), ROW_BOUNDS))
        except (InputRefused, ValidationError):
            continue
