"""The owner's own pause: jobs under way are finished, no more are asked for."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.scheduling.wait_log import WaitKind, WaitReason

RESUME = "`horde-bridge resume` ends it."


@dataclass
class OwnerPause:
    """Off until `begin`. Moments are seconds since 1970, since a pause may outlast a run of the worker."""

    wall: Callable[[], float] = time.time
    is_on: bool = field(default=False, init=False)
    #: None: until it is ended
    until: float | None = field(default=None, init=False)
    #: on the monotonic clock, from the first look on: the other one may be set back
    _latest: float | None = field(default=None, init=False)

    def begin(self, until: float | None) -> None:
        """No new jobs from now on, until then."""
        self.is_on, self.until, self._latest = True, until, None

    def end(self) -> None:
        self.is_on, self.until, self._latest = False, None, None

    def wait(self, now: float) -> WaitReason | None:
        """Why no job should be asked for; None when the pause is over. `now` on the monotonic clock."""
        left_s = None if self.until is None else self.until - self.wall()
        if left_s is not None:
            self._latest = now + left_s if self._latest is None else self._latest
            left_s = min(left_s, self._latest - now)
            if left_s <= 0:
                self.end()
        if not self.is_on:
            return None
        # Without an end it says nothing of time, and is looked at again as often as any such reason.
        until = None if left_s is None else now + left_s
        return WaitReason(WaitKind.OWNER, "Paused by its owner.", until, remedy=RESUME)
