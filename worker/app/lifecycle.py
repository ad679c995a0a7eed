"""Run a worker in this process until signals end it."""

import asyncio
import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import psutil
from loguru import logger

from worker.app.run import serve
from worker.app.worker_spec import WorkerSpec
from worker.errors import WorkerError
from worker.jobs.job import JobEvent, Stage
from worker.process.signals import signals
from worker.status.session import SessionStats
from worker.units import counted

#: Seconds after the third signal in which everything must end; then the process is killed.
END_LIMIT_S = 20.0
#: M_MMAP_THRESHOLD of glibc's malloc.h.
_MMAP_THRESHOLD = -3
#: Blocks from this size on are mapped by themselves, and gone when they are freed; in bytes.
LARGE_BLOCK_BYTES = 1024 * 1024


@dataclass
class Ending:
    """The steps of a shutdown: each signal takes the next one."""

    #: gives all jobs back at once
    cancel: Callable[[], object]
    #: kills the process and its children
    die: Callable[[], object]
    #: set: no new jobs, those under way are finished
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    #: set: jobs that no engine has started are given back, the others get a few seconds
    hasten: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    def further(self) -> None:
        """Take the next step."""
        if not self.stop.is_set():
            self.stop.set()
        elif not self.hasten.is_set():
            self.hasten.set()
        elif not self.cancelled:
            self.at_once()
        else:
            self.die()

    def at_once(self) -> None:
        """Take the third step, whatever came before."""
        self.cancelled = True
        self.stop.set()
        self.hasten.set()
        self.cancel()


def run(spec: WorkerSpec) -> SessionStats:
    """`serve` until SIGINT or SIGTERM; the second signal hastens, the third cancels, the fourth kills.

    SIGHUP reads the settings again. Raises what `serve` raises, and WorkerError when jobs had to be given back.
    """
    spec.events.subscribe(settle)

    async def until_signalled() -> SessionStats:
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            logger.warning("Stopping at once.")
            loop.call_later(END_LIMIT_S, cut_off)
            serving.cancel()

        ending = Ending(cancel, cut_off)
        serving = asyncio.ensure_future(serve(spec, ending.stop, ending.hasten))
        with signals(stop=ending.further, close=ending.at_once, reload=spec.reload):
            try:
                stats = await serving
            except asyncio.CancelledError:
                raise WorkerError("Stopped before the jobs under way were done.") from None
        if stats.given_back:
            raise WorkerError(
                f"Stopped before all was done: {counted(stats.given_back, 'job')} went back to the Horde."
            )
        return stats

    give_back_large_blocks()
    # Nothing waits yet, so that the collection after the first job finds little to look at.
    _keep_what_lasts()
    return asyncio.run(until_signalled())


def settle(event: JobEvent) -> None:
    """After the first job: exempt what lives on from garbage collection."""
    if event.stage is Stage.DONE:
        _freeze()


@cache
def _freeze() -> None:
    """Once per process: collections of all long-lived objects stopped the event loop for up to 50 ms (measured)."""
    _keep_what_lasts()


def _keep_what_lasts() -> None:
    gc.collect()
    gc.freeze()


def cut_off() -> None:
    """Kill this process and its children. The journal has the ids that are left open."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(1)


def give_back_large_blocks() -> bool:
    """Have glibc let freed pictures leave the process. Returns whether the C library does so now.

    By itself glibc raises its threshold to 32 MB at the first large block that is freed, and keeps what is smaller for
    each thread: six jobs with pictures of 3072² left 260 MB behind, and 2 MB with this (measured).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, LARGE_BLOCK_BYTES))
