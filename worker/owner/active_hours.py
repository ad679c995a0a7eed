"""The worker keeps the hours its owner gave it: outside of them it is paused, as by hand."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from loguru import logger

from worker.app.context import RunningWorker
from worker.config.active_hours import closed_for_s, read_hours

#: Seconds between two looks at the clock.
TICK_S = 20.0


def _now() -> datetime:
    return datetime.now()  # noqa: DTZ005 - an owner means his own clock


@dataclass(eq=False)
class HoursWatch:
    """A background task. An owner who resumes the worker outside its hours is obeyed until they begin."""

    clock: Callable[[], datetime] = _now
    #: when the hours begin for which the worker was paused
    _opens: datetime | None = field(default=None, init=False)

    async def __call__(self, running: RunningWorker) -> None:
        while True:
            self.look(running)
            await asyncio.sleep(TICK_S)

    def look(self, running: RunningWorker) -> None:
        """Pause at the end of the hours, once; end that pause where the settings have changed meanwhile."""
        now = self.clock()
        closed_s = closed_for_s([read_hours(text) for text in running.live.data.active_hours], now)
        steering = running.status.steering
        if closed_s and self._opens is None:
            self._opens = now + timedelta(seconds=closed_s)
            if not steering.pause_state.is_on:
                logger.bind(action="hours_over").info(
                    "Outside active_hours: no new jobs until {:%a %H:%M}. `horde-bridge resume` serves all the same.",
                    self._opens,
                )
                steering.pause(closed_s)
        elif not closed_s and self._opens is not None:
            if now < self._opens and steering.pause_state.until is not None:
                steering.resume()
            self._opens = None
