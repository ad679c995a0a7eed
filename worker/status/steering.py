"""The one way to steer the running worker, whoever asks: terminal, page, command, schedule."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from loguru import logger

from worker.config.editing import Edited, Editor
from worker.errors import ConfigError
from worker.horde.account import switch_maintenance
from worker.horde.client import HordeClient
from worker.scheduling.owner_pause import OwnerPause

#: Longest pause with an end, in seconds: thirty days.
LONGEST_PAUSE_S = 30 * 86_400.0


@dataclass
class Steering:
    """What an owner can do while the worker runs. Called on the event loop."""

    horde: HordeClient
    #: the worker's name on the Horde, now
    name: Callable[[], str]
    #: set: no new jobs, those under way are finished, then the worker ends
    stop: asyncio.Event
    #: reads the settings again
    reload: Callable[[], None]
    pause_state: OwnerPause = field(default_factory=OwnerPause)
    wall: Callable[[], float] = time.time
    _listeners: list[Callable[[], None]] = field(default_factory=list, init=False)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def is_finishing(self) -> bool:
        """The worker has been told to finish, by whomever."""
        return self.stop.is_set()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each step taken here."""
        self._listeners.append(listener)

    def pause(self, for_s: float | None = None) -> None:
        """No new jobs for so many seconds; None: until `resume`. Raises ConfigError for a span that makes no sense."""
        if for_s is not None and not 0 < for_s <= LONGEST_PAUSE_S:
            raise ConfigError(
                "A pause lasts from one second to thirty days.", remedy="Leave its length out to pause until `resume`."
            )
        self.pause_state.begin(None if for_s is None else self.wall() + for_s)
        self._changed()

    def resume(self) -> None:
        """End the pause, if there is one."""
        self.pause_state.end()
        self._changed()

    def finish(self) -> None:
        """No new jobs; when those under way are done the worker ends."""
        self.stop.set()
        self._changed()

    async def set_maintenance(self, *, on: bool, message: str = "") -> None:
        """Maintenance mode on the Horde: only the owner's own jobs come. Raises HordeError."""
        await switch_maintenance(self.horde, self.name(), on=on, message=message)
        action = "maintenance_entered" if on else "maintenance_left"
        logger.bind(action=action).info("Maintenance mode is {}.", "on" if on else "off")
        self._changed()

    async def change_settings(self, editor: Editor, wanted: Mapping[str, Any], *, fingerprint: str = "") -> Edited:
        """Write settings into the owner's file and read it again. Raises ConfigError; nothing is changed then."""
        # One after another: of two that were made for the same file the second must see what the first has written.
        async with self._writing:
            edited = await asyncio.to_thread(partial(editor.change, wanted, fingerprint=fingerprint))
        if edited.kept is not None:
            keys = ", ".join(change.key for change in edited.changed)
            logger.bind(action="settings_written").info(
                "Settings were changed by the owner: {}.", keys or "none in force"
            )
        self.reload_settings()
        return edited

    def reload_settings(self) -> None:
        """Read the settings again soon."""
        self.reload()
        self._changed()

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()
