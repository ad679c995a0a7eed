"""A worker from its start to its end in this process, as signals say."""

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import psutil
from loguru import logger

from worker.app.run import Setup, serve
from worker.errors import WorkerError
from worker.jobs.job import JobEvent, Stage
from worker.jobs.session_stats import SessionStats
from worker.process.signals import signals

#: After the third signal: what is not over by then is cut off.
END_LIMIT_S = 20.0


@dataclass
class Ending:
    """How urgently the worker is to end: each signal is one step further."""

    #: gives everything back at once
    cancel: Callable[[], object]
    #: ends the process as it is
    die: Callable[[], object]
    #: no new jobs; those under way are finished
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    #: those that no engine has begun with are given back, the others get a moment
    hasten: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    def further(self) -> None:
        """One step."""
        if not self.stop.is_set():
            self.stop.set()
        elif not self.hasten.is_set():
            self.hasten.set()
        elif not self.cancelled:
            self.at_once()
        else:
            self.die()

    def at_once(self) -> None:
        """The third step, whatever came before."""
        self.cancelled = True
        self.stop.set()
        self.hasten.set()
        self.cancel()


def run(setup: Setup) -> SessionStats:
    """`serve` until SIGINT or SIGTERM; the second hastens, the third stops at once, the fourth cuts off.

    SIGHUP reads the settings again. Raises what `serve` raises, and WorkerError when jobs had to be given back.
    """
    setup.events.subscribe(settle)

    async def until_signalled() -> SessionStats:
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            logger.warning("Stopping at once.")
            loop.call_later(END_LIMIT_S, cut_off)
            serving.cancel()

        ending = Ending(cancel, cut_off)
        serving = asyncio.ensure_future(serve(setup, ending.stop, ending.hasten))
        with signals(stop=ending.further, close=ending.at_once, reload=setup.reload):
            try:
                stats = await serving
            except asyncio.CancelledError:
                raise WorkerError("Stopped before the jobs under way were done.") from None
        if stats.given_back:
            raise WorkerError(f"Stopped before {stats.given_back} job(s) were done; they went back to the Horde.")
        return stats

    return asyncio.run(until_signalled())


def settle(event: JobEvent) -> None:
    """Keep the garbage collector off all that lasts, which has been made when the first job is done."""
    if event.stage is Stage.DONE:
        _freeze()


@cache
def _freeze() -> None:
    """Once in a process. The collector's rounds through all of it took up to 50 ms, in which nothing else went on."""
    gc.collect()
    gc.freeze()


def cut_off() -> None:
    """End this process and its children now. What is left open stands in the journal."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(1)
