"""Model files from the network: each once, resumed, checked, and under its name only when whole.

A file is fetched by one task however many wait for it. A transfer that breaks is taken up again after a growing
pause; only tries that bring no byte count towards giving up. Nothing that the server says for good (no token, gone,
blocked) is asked twice.
"""

import asyncio
import hashlib
import os
import random
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx
from loguru import logger

from worker.aio import timeout
from worker.errors import AddressRefused, WorkerError
from worker.models.disk.folder_lock import alone
from worker.models.disk.integrity import BLOCK_BYTES, HashStore, find_damage
from worker.models.download.part_file import PartFile, PartState
from worker.models.download.transfer import (
    MIB,
    DownloadFailed,
    Limits,
    Throttle,
    Transfer,
    TransferBroken,
    TransferStale,
)
from worker.untrusted.addresses import only_public, only_web

#: Tries in a row that bring nothing before a file is given up.
MAX_FRUITLESS: Final = 5
#: How often what is on disk may turn out useless before a file is given up.
MAX_STALE: Final = 3
#: How often a whole file may turn out wrong: the first time, it may have begun as part of an older one.
MAX_WRONG: Final = 2
#: What the owner can do about a file that is not what its record says.
WRONG_REMEDY: Final = "Wait for the model reference to be mended, or leave the model out."
#: Seconds before the second try; doubled for each further one that brings nothing.
FIRST_PAUSE_S: Final = 2.0
MAX_PAUSE_S: Final = 120.0
#: Bytes that stay free on the disk, for everything else that needs some.
RESERVE_BYTES: Final = 1024 * MIB
#: Seconds between two reports of a running download.
REPORT_EVERY_S: Final = 0.5
#: Seconds without a byte, and for a connection.
READ_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 15.0
#: Below the model root: what shows other workers that a file is being fetched.
LOCKS: Final = "horde_model_reference/locks"
#: Of a path's hash: few enough that the empty lock files stay a bounded number, enough that two paths hardly share one.
LOCK_DIGITS: Final = 4


class State(str, Enum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    #: nobody wants it any more, or the worker ends
    STOPPED = "stopped"


@dataclass(frozen=True)
class Download:
    """A file to fetch. `size` is an estimate for plans; the server's word counts, up to `max_bytes`."""

    url: str
    target: Path
    sha256: str | None = None
    size: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True)
class Progress:
    """Where a download stands. `total` None: unknown so far."""

    download: Download
    state: State
    done: int = 0
    total: int | None = None
    message: str = ""


def open_client(*, private: bool = False) -> httpx.AsyncClient:
    """The client all downloads go through: public addresses only, unless `private` ones are allowed.

    The proxies of the environment (HTTPS_PROXY, NO_PROXY) are used.
    """
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    hooks = [only_web] if private else [only_web, only_public()]
    return httpx.AsyncClient(timeout=timeout, max_redirects=10, event_hooks={"request": hooks})


class Downloader:
    """Fetches files, `at_once` at the same time, for none longer than `limit_s` in one go.

    `tokens`: host → bearer token, sent to it and its sub-domains over https only.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        hashes: HashStore,
        *,
        tokens: Mapping[str, str] = MappingProxyType({}),
        limits: Limits = Limits(),  # noqa: B008 - frozen
        throttle: Throttle | None = None,
        at_once: int = 4,
        limit_s: float | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
        reserve_bytes: int = RESERVE_BYTES,
        on_progress: Callable[[Progress], None] = lambda _: None,
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
        self._on_progress = on_progress
        self._running: dict[Path, asyncio.Task[Path]] = {}

    async def fetch(self, download: Download) -> Path:
        """The file, whole and checked, at its target. Raises DownloadFailed with the reason and the remedy.

        A caller that is cancelled leaves the download running for others, and for its next call.
        """
        task = self._running.get(download.target)
        if task is None:
            task = asyncio.create_task(self._fetch(download), name=f"download {download.target.name}")
            self._running[download.target] = task
            task.add_done_callback(lambda task: self._forget(download.target, task))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End all transfers; what arrived stays for the next start."""
        await self.keep_only(())

    async def keep_only(self, targets: Collection[Path]) -> None:
        """End the transfers of all other targets; what arrived stays."""
        tasks = [task for target, task in self._running.items() if target not in targets]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, target: Path, task: "asyncio.Task[Path]") -> None:
        self._running.pop(target, None)
        if not task.cancelled():
            task.exception()  # every waiter may be gone; the failure has been reported

    async def _fetch(self, download: Download) -> Path:
        self._report(Progress(download, State.WAITING, total=download.size))
        async with alone(self._lock_file(download.target)) as waited, self._turns:
            if waited and download.target.is_file() and self._hashes.known(download.target) == download.sha256:
                return download.target
            try:
                return await self._in_time(download)
            except asyncio.CancelledError:
                self._report(Progress(download, State.STOPPED))
                raise
            except (DownloadFailed, AddressRefused, OSError, httpx.InvalidURL) as error:
                failure = _as_failure(download, error)
                self._report(Progress(download, State.FAILED, message=str(failure)))
                logger.bind(action="download_failed", file=download.target.name).error("{}", failure)
                raise failure from error

    async def _in_time(self, download: Download) -> Path:
        limit = timeout(self._limit_s)
        try:
            async with limit:
                return await self._persist(download)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the disk's
            raise DownloadFailed(
                f"it did not come within {self._limit_s:g} s.",
                remedy="Try again later; what arrived is kept.",
                final=False,
            ) from error

    async def _persist(self, download: Download) -> Path:
        part = PartFile(download.target)
        fruitless = stale = wrong = 0
        before = 0
        while True:
            transfer = self._open(download, part)
            try:
                state, sha256 = await self._run(download, part, transfer)
            except TransferStale as error:
                stale += 1
                reason, pause_s = error.message, 0.0
                failure = DownloadFailed(f"given up: {reason}.", remedy="Try again later.", final=False)
                await asyncio.to_thread(part.discard)
            except TransferBroken as error:
                done = transfer.state.done if transfer.state else 0
                # A server that drips a few bytes per try is as good as one that sends none.
                fruitless = (
                    0 if done - before >= self._limits.slow_bytes_per_s * self._limits.slow_window_s else fruitless + 1
                )
                before, reason = done, error.message
                pause_s = max(error.retry_after_s, _pause_s(self._first_pause_s, fruitless))
                failure = DownloadFailed(
                    f"given up: {reason}.", remedy="Try again later; what arrived is kept.", final=False
                )
            else:
                reason = _find_wrong(download, part, sha256)
                if not reason:
                    await asyncio.to_thread(self._finish, part, sha256)
                    self._report(Progress(download, State.DONE, state.done, state.done))
                    return download.target
                wrong += 1
                pause_s = _pause_s(self._first_pause_s, wrong)
                failure = DownloadFailed(f"given up: {reason}.", remedy=WRONG_REMEDY)
                await asyncio.to_thread(part.discard)
            if fruitless >= MAX_FRUITLESS or stale >= MAX_STALE or wrong >= MAX_WRONG:
                raise failure
            logger.bind(action="download_retry", file=part.target.name).info(
                "{}: {}; trying again in {:.0f} s", part.target.name, reason, pause_s
            )
            await asyncio.sleep(min(pause_s, MAX_PAUSE_S))

    def _open(self, download: Download, part: PartFile) -> Transfer:
        return Transfer(
            self._http, download.url, part,
            headers=self._headers(download.url), limits=self._bounds(download), throttle=self._throttle,
            check_room=lambda total: self._check_room(download.target, total),
        )  # fmt: skip

    async def _run(self, download: Download, part: PartFile, transfer: Transfer) -> tuple[PartState, str]:
        """The transfer, with its checksum computed behind it."""
        digest, hashed = hashlib.sha256(), 0
        running = asyncio.ensure_future(transfer.run())
        counted: PartState | None = None
        try:
            while True:
                await asyncio.wait({running}, timeout=REPORT_EVERY_S)
                ended = running.done()
                if ended:
                    running.result()
                if state := transfer.state:
                    if state is not counted:
                        # A new one: the server has another file than the one that was partly on disk.
                        digest, hashed, counted = hashlib.sha256(), 0, state
                    hashed = await asyncio.to_thread(_feed, digest, part.path, hashed, state.prefix)
                    self._report(Progress(download, State.RUNNING, state.done, state.total))
                if ended:
                    return running.result(), digest.hexdigest()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _lock_file(self, target: Path) -> Path:
        name = hashlib.sha256(os.fsencode(target.absolute())).hexdigest()
        return self._hashes.root / LOCKS / f"{name[:LOCK_DIGITS]}.lock"

    def _bounds(self, download: Download) -> Limits:
        bound = min(self._limits.max_bytes, download.max_bytes or self._limits.max_bytes)
        return replace(self._limits, max_bytes=bound)

    def _finish(self, part: PartFile, sha256: str) -> None:
        part.finish()
        self._hashes.keep(part.target, sha256)

    def _check_room(self, target: Path, total: int) -> None:
        free = shutil.disk_usage(_existing(target.parent)).free
        if total + self._reserve_bytes > free:
            raise DownloadFailed(
                f"it has {total / MIB:.0f} MiB, and the disk has {free / MIB:.0f} MiB left.",
                remedy="Free disk space, or load fewer models.",
                final=False,
            )

    def _headers(self, url: str) -> dict[str, str]:
        parsed = httpx.URL(url)
        for host, token in self._tokens.items():
            if token and parsed.scheme == "https" and (parsed.host == host or parsed.host.endswith(f".{host}")):
                return {"authorization": f"Bearer {token}"}
        return {}

    def _report(self, progress: Progress) -> None:
        self._on_progress(progress)


def _find_wrong(download: Download, part: PartFile, sha256: str) -> str:
    if download.sha256 and download.sha256 != sha256:
        return f"the file is not the one expected: its sha256 is {sha256[:12]}…, not {download.sha256[:12]}…"
    return find_damage(part.path, suffix=download.target.suffix)


def _as_failure(download: Download, error: Exception) -> DownloadFailed:
    """What a download ended with, told with its file and where it was to come from."""
    match error:
        case WorkerError():
            text, final = error.message, getattr(error, "final", True)
        case OSError():
            text, final = f"the disk refuses: {error}", False
        case _:
            text, final = f"{error}.", True
    return DownloadFailed(
        f"{download.target.name} from {_shown(download.url)}: {text}", remedy=getattr(error, "remedy", ""), final=final
    )


def _feed(digest: Any, path: Path, start: int, upto: int) -> int:
    """Add the file's bytes from `start` to `upto` to the digest; the new start."""
    with path.open("rb") as file:
        file.seek(start)
        while start < upto and (block := file.read(min(BLOCK_BYTES, upto - start))):
            digest.update(block)
            start += len(block)
    return start


def _pause_s(first_s: float, fruitless: int) -> float:
    """A growing pause, spread so that many files of one dead host don't come back at once."""
    return min(MAX_PAUSE_S, first_s * 2.0 ** max(0, fruitless - 1)) * random.uniform(0.8, 1.2)


def _shown(url: str) -> str:
    """An address without its query, which may hold a token."""
    try:
        return str(httpx.URL(url).copy_with(query=None, fragment=None, userinfo=b""))
    except httpx.InvalidURL:
        return "an unreadable address"


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def estimate_bytes(downloads: Iterable[Download]) -> tuple[int, int]:
    """What a plan takes: (bytes as far as known, files of unknown size). What is on disk already does not count."""
    known = unknown = 0
    for download in downloads:
        if download.size is None:
            unknown += 1
            continue
        state = PartFile(download.target).load(download.url)
        known += max(0, download.size - (state.done if state else 0))
    return known, unknown
