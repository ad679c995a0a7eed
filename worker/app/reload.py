"""The owner's settings read again while the worker runs: when the file changes, or on SIGHUP."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from worker.aio import timeout
from worker.app.context import RunningWorker
from worker.config.live import changes, in_force, sentences
from worker.config.load import LoadedConfig
from worker.config.schema import BridgeData
from worker.engine.process import EngineSettings
from worker.errors import WorkerError
from worker.file_facts import stamp_of

#: How often the files are looked at.
POLL_S = 1.0

#: Size and time of change of each file; None for one that is not there.
Stamp = tuple[tuple[int, int] | None, ...]


@dataclass(eq=False, repr=False)
class SettingsWatch:
    """A background task. An unusable or missing file changes nothing."""

    loaded: LoadedConfig
    #: watched; none when the settings come from the environment
    files: Sequence[Path]
    reread: Callable[[], LoadedConfig]
    #: may refuse settings
    engines: Callable[[BridgeData], Sequence[EngineSettings]]
    poll_s: float = POLL_S

    def __post_init__(self) -> None:
        self._last = self.loaded.data
        self._warned = set(self.loaded.warnings)
        self._seen = self._stamp()
        self._asked: asyncio.Event | None = None

    def ask(self) -> None:
        """Read again soon, changed or not. Called on the event loop."""
        if self._asked is not None:
            self._asked.set()

    async def __call__(self, running: RunningWorker) -> None:
        self._asked = asyncio.Event()
        unsettled = False
        while True:
            asked = await self._wait()
            stamp = self._stamp()
            # An editor may be in the middle of writing: it has ended when two looks see the same.
            settled, self._seen = stamp == self._seen, stamp
            if asked or (settled and unsettled):
                unsettled = False
                await self._read(running)
            else:
                unsettled = unsettled or not settled

    async def _wait(self) -> bool:
        assert self._asked is not None
        try:
            async with timeout(self.poll_s):
                await self._asked.wait()
        except TimeoutError:
            return False
        # Only now: a request that came while the last one was served must not be lost.
        self._asked.clear()
        return True

    def _stamp(self) -> Stamp:
        return tuple(stamp_of(file) for file in self.files)

    async def _read(self, running: RunningWorker) -> None:
        if not self.files:
            logger.info("The settings come from the environment, which can't change while the worker runs.")
            return
        try:
            loaded = await asyncio.to_thread(self.reread)
            wanted, before = loaded.data, running.live.data
            changed = changes(self._last, wanted)
            now = in_force(before, wanted)
            # Whatever changed: how many models an engine has memory for hangs on those that are served.
            engines = await asyncio.to_thread(self.engines, now) if now != before else ()
        except WorkerError as error:
            logger.bind(action="settings_refused").error("The new settings can't be used, the old ones stay: {}", error)
            return
        self._last = wanted
        for warning in loaded.warnings:
            if warning not in self._warned:
                logger.warning("{}", warning)
        self._warned = set(loaded.warnings)
        said = sentences(changed) or ("nothing has changed.",)
        logger.bind(action="settings_read").info("Settings read again: {}", " ".join(said))
        if now != before:
            running.pool.give_settings(engines)
            running.live.change(now)
