"""How the Horde stands to this worker, by its answers: said once when it changes, not with every pop."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from loguru import logger

from worker.errors import HordeError, HordeMaintenance
from worker.horde.wire import Message

#: A trouble that lasts is said again so often.
SAY_AGAIN_S = 600.0
#: Messages of the Horde remembered as told.
MOST_TOLD = 200


@dataclass
class Standing:
    """Times are seconds of a monotonic clock."""

    #: why the last pop brought no answer; empty while all is well
    trouble: str = ""
    maintenance: bool = False
    _since: float = field(default=0.0, init=False)
    _said_at: float = field(default=0.0, init=False)
    _told: dict[str, None] = field(default_factory=dict, init=False)

    def failed(self, error: HordeError, *, pause_s: float, now: float) -> None:
        """A pop was turned down or got no answer."""
        if not self.trouble:
            self._since = now
        is_news = str(error) != self.trouble
        self.trouble, self.maintenance = str(error), isinstance(error, HordeMaintenance)
        if is_news or now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            action = "maintenance" if self.maintenance else "pop_failed"
            logger.bind(action=action).warning("No jobs, next try in {:.0f} s: {}", pause_s, error)

    def answered(self, messages: Iterable[Message], *, now: float) -> None:
        """A pop was answered, with or without a job."""
        if self.trouble:
            logger.bind(action="horde_back").info("The Horde gives jobs again, after {}.", duration(now - self._since))
            self.trouble, self.maintenance = "", False
        for message in messages:
            key = message.id or message.message
            if key not in self._told:
                logger.bind(action="message").info("Message from the Horde: {}", message.message)
                self._told[key] = None
                if len(self._told) > MOST_TOLD:
                    del self._told[next(iter(self._told))]


def duration(seconds: float) -> str:
    """A time span for people."""
    whole = round(seconds)
    if whole < 120:  # noqa: PLR2004 - below two minutes seconds tell more
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"  # noqa: PLR2004 - likewise
