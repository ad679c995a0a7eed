"""Model files from the network: each fetched once, resumed, checked, and given its name only when whole.

One task fetches a file, however many wait for it. A transfer that breaks is resumed after a growing pause; only tries
that bring hardly a byte count towards giving up. A final no (no token, gone, blocked) is not asked twice.
"""

import asyncio
import errno
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx
from loguru import logger

from worker.aio import SharedTasks, timeout
from worker.errors import DiskFull, DownloadError, DownloadFailed, DownloadRefused, FileBroken, Retry
from worker.models.disk.checksums import HashStore, path_digest
from worker.models.disk.contents import read_contents
from worker.models.download.part_file import PartFile, PartState
from worker.models.download.transfer import Throttle, Transfer, TransferLimits
from worker.process.file_lock import locked
from worker.units import MIB, free_bytes
from worker.untrusted.addresses import only_public, only_web
from worker.untrusted.http_head import bounded_head

#: Tries in a row without progress before a file is given up.
MAX_FRUITLESS: Final = 5
#: How often the bytes on disk may turn out useless before a file is given up.
MAX_RESTARTS: Final = 3
#: How often a whole file may be wrong: the first time, it may have begun as part of an older version.
MAX_WRONG: Final = 2
#: For a file that is not what its record says.
WRONG_REMEDY: Final = "Wait for the model reference to be corrected, or leave the model out."
#: Seconds before the second try; doubled for each further one without progress.
FIRST_PAUSE_S: Final = 2.0
MAX_PAUSE_S: Final = 120.0
#: Bytes of the disk left free for everything else.
RESERVE_BYTES: Final = 1024 * MIB
#: Seconds between two reports of a running download.
REPORT_EVERY_S: Final = 0.5
#: Seconds without a byte, and for a connection.
READ_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 15.0
#: Below the model root: locks that tell other workers which files are being fetched.
LOCKS: Final = "horde_model_reference/locks"
#: Hexadecimal digits of a path's hash that name its lock: 65,536 empty files at most, and two paths hardly share one.
LOCK_DIGITS: Final = 4
#: Statuses that the owner can turn into a yes (a token, accepted terms): what has arrived is kept.
_KEEP_PART: Final = frozenset({401, 403, 451})


class DownloadState(str, Enum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    #: no longer wanted, or the worker ends
    STOPPED = "stopped"


@dataclass(frozen=True)
class Download:
    """A file to fetch. `size` is an estimate for plans; the server's figure counts, up to `max_bytes`."""

    url: str
    target: Path
    sha256: str | None = None
    size: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True)
class DownloadProgress:
    """Where a download stands, in bytes. `total` None: unknown so far."""

    download: Download
    state: DownloadState
    done: int = 0
    total: int | None = None
    message: str = ""


def open_client(*, private: bool = False) -> httpx.AsyncClient:
    """The client of all downloads: public addresses only, unless `private` ones are allowed.

    It uses the proxies of the environment (HTTPS_PROXY, NO_PROXY).
    """
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    hooks = [only_web, bounded_head] if private else [only_web, only_public(), bounded_head]
    return httpx.AsyncClient(timeout=timeout, max_redirects=10, event_hooks={"request": hooks})


class Downloader:
    """Fetches files, `at_once` at the same time, each call for at most `limit_s` seconds.

    `tokens`: host → bearer token, sent to it and its sub-domains over https only.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        hashes: HashStore,
        *,
        tokens: Mapping[str, str] = MappingProxyType({}),
        limits: TransferLimits = TransferLimits(),  # noqa: B008 - frozen
        throttle: Throttle | None = None,
        at_once: int = 4,
        limit_s: float | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
        reserve_bytes: int = RESERVE_BYTES,
        on_progress: Callable[[DownloadProgress], None] = lambda _: None,
    ) -> None:
        self._http = http
        self._hashes = hashes
        self._tokens = tokens
        self._limits = limits
        self._throttle = throttle or Throttle()
        self._turns = asyncio.Semaphore(at_once)
        self._limit_s = limit_s
        self._first_pause_s = first_pause_s
        self._reserve_bytes = reserve_bytes
        self._report = on_progress
        self._running: SharedTasks[Path, Path] = SharedTasks()

    async def fetch(self, download: Download) -> Path:
        """The file, whole and checked, at its target. Raises DownloadError with the reason and the remedy.

        A caller that is cancelled leaves the download running for others, and for its next call.
        """
        return await self._running.result(download.target, lambda: self._fetch(download))

    async def close(self) -> None:
        """End all transfers; what arrived is kept for the next start."""
        await self.keep_only(())

    async def keep_only(self, targets: Collection[Path]) -> None:
        """End the transfers of all other targets; what arrived is kept."""
        await self._running.end(but=targets)

    async def _fetch(self, download: Download) -> Path:
        self._report(DownloadProgress(download, DownloadState.WAITING, total=download.size))
        async with locked(self._lock_file(download.target)) as waited, self._turns:
            if waited and download.target.is_file() and self._hashes.known(download.target) == download.sha256:
                return download.target
            try:
                await self._fetch_in_time(download)
                return download.target
            except asyncio.CancelledError:
                self._report(DownloadProgress(download, DownloadState.STOPPED))
                raise
            except (DownloadError, OSError, httpx.InvalidURL, UnicodeError) as error:
                # UnicodeError: from httpx, at a host such as xn--a, which is no international name.
                failure = _as_failure(download, error)
                if failure.retry is Retry.NO and failure.status not in _KEEP_PART:
                    await asyncio.to_thread(PartFile(download.target).discard)
                self._report(DownloadProgress(download, DownloadState.FAILED, message=str(failure)))
                # Whoever waits for the file says so, too.
                logger.bind(action="download_failed", file=download.target.name).debug("{}", failure)
                raise failure from error

    async def _fetch_in_time(self, download: Download) -> None:
        limit = timeout(self._limit_s)
        try:
            async with limit:
                await self._fetch_until_whole(download)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the disk's
            raise DownloadFailed(
                f"it did not come within {self._limit_s:g} s.", remedy="Try again later; what arrived is kept."
            ) from error

    async def _fetch_until_whole(self, download: Download) -> None:
        part = PartFile(download.target)
        done = fruitless = restarts = wrong = 0
        while True:
            transfer = self._open(download, part)
            failure: DownloadError
            try:
                sha256 = await transfer.run()
                await asyncio.to_thread(self._finish, download, part, sha256)
                self._report(DownloadProgress(download, DownloadState.DONE, transfer.done, transfer.done))
                return
            except FileBroken as error:
                wrong, done = wrong + 1, 0
                reason, pause_s = error.message, self._pause_s(wrong)
                failure = FileBroken(f"given up: {reason}.", remedy=WRONG_REMEDY)
                await asyncio.to_thread(part.discard)
            except DownloadFailed as error:
                before, done = done, transfer.done
                # A server that drips a few bytes per try is as good as one that sends none.
                enough = self._limits.slow_bytes_per_s * self._limits.slow_window_s
                fruitless = 0 if done - before >= enough else fruitless + 1
                restarts += done < before
                reason, pause_s = error.message, max(error.retry_after_s, self._pause_s(fruitless))
                kept = " what arrived is kept." if done else ""
                failure = DownloadFailed(f"given up: {reason}.", remedy=f"Try again later{';' if done else '.'}{kept}")
            if fruitless >= MAX_FRUITLESS or restarts >= MAX_RESTARTS or wrong >= MAX_WRONG:
                raise failure
            logger.bind(action="download_retry", file=part.target.name).info(
                "{}: {}; trying again in {:.0f} s", part.target.name, reason, pause_s
            )
            await asyncio.sleep(min(pause_s, MAX_PAUSE_S))

    def _open(self, download: Download, part: PartFile) -> Transfer:
        max_bytes = min(self._limits.max_bytes, download.max_bytes or self._limits.max_bytes)
        last_s = float("-inf")

        def on_progress(state: PartState) -> None:
            nonlocal last_s
            if time.monotonic() - last_s >= REPORT_EVERY_S:
                last_s = time.monotonic()
                self._report(DownloadProgress(download, DownloadState.RUNNING, state.done, state.total))

        return Transfer(
            self._http, download.url, part,
            headers=self._headers(download.url),
            limits=replace(self._limits, max_bytes=max_bytes),
            throttle=self._throttle,
            check_room=lambda needed: self._check_room(download.target, needed),
            on_progress=on_progress,
        )  # fmt: skip

    def _finish(self, download: Download, part: PartFile, sha256: str) -> None:
        """Give the file its name. Raises FileBroken where it is not the one expected."""
        if download.sha256 and download.sha256 != sha256:
            raise FileBroken(
                f"the file is not the one expected: its sha256 is {sha256[:12]}…, not {download.sha256[:12]}…"
            )
        # A file of the right checksum is the one asked for; whether it is of use is not judged here.
        if not download.sha256 and (damage := read_contents(part.path, suffix=download.target.suffix).damage):
            raise FileBroken(damage)
        part.finish()
        self._hashes.keep(part.target, sha256)

    def _lock_file(self, target: Path) -> Path:
        return self._hashes.root / LOCKS / f"{path_digest(target)[:LOCK_DIGITS]}.lock"

    def _check_room(self, target: Path, needed: int) -> None:
        free = free_bytes(target.parent)
        if needed + self._reserve_bytes > free:
            raise DiskFull(
                f"{needed / MIB:.0f} MiB are to come, and the disk has {free / MIB:.0f} MiB left, of which "
                f"{self._reserve_bytes / MIB:.0f} stay free.",
                remedy="Free disk space, set cache_home to another disk, or load fewer models.",
            )

    def _headers(self, url: str) -> dict[str, str]:
        parsed = httpx.URL(url)
        for host, token in self._tokens.items():
            if token and parsed.scheme == "https" and (parsed.host == host or parsed.host.endswith(f".{host}")):
                return {"authorization": f"Bearer {token}"}
        return {}

    def _pause_s(self, fruitless: int) -> float:
        """A growing pause, spread so that many files of one dead host are not tried at the same moment."""
        return min(MAX_PAUSE_S, self._first_pause_s * 2.0 ** max(0, fruitless - 1)) * random.uniform(0.8, 1.2)


def estimate_bytes(downloads: Iterable[Download]) -> tuple[int, int]:
    """(bytes still to come as far as known, files of unknown size)."""
    known = unknown = 0
    for download in downloads:
        if download.size is None:
            unknown += 1
            continue
        state = PartFile(download.target).load(download.url)
        known += max(0, download.size - (state.done if state else 0))
    return known, unknown


def _as_failure(download: Download, error: Exception) -> DownloadError:
    """What a download ended with, with its file and address (without its query, which may hold a token)."""
    where = f"{download.target.name} from {_shown(download.url)}:"
    if isinstance(error, DownloadError):
        return type(error)(f"{where} {error.message}", status=error.status, remedy=error.remedy)
    if not isinstance(error, OSError):
        return DownloadRefused(f"{where} {error}.")
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(f"{where} the disk is full.", remedy="Free disk space, or set cache_home to another disk.")
    return DownloadFailed(f"{where} the disk refuses: {error}")


def _shown(url: str) -> str:
    try:
        return str(httpx.URL(url).copy_with(query=None, fragment=None, userinfo=b""))
    except (httpx.InvalidURL, UnicodeError):
        return "an unreadable address"
