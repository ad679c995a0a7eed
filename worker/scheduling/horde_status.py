"""How the Horde stands to this worker, by its answers: said once when it changes, not with every pop."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from loguru import logger

from worker.errors import HordeBusy, HordeError, HordeKeyUnknown, HordeMaintenance, HordeRefused
from worker.horde.messages import Message
from worker.horde.sanitize import quote

#: A trouble that lasts is said again so often.
SAY_AGAIN_S = 600.0
#: To wait for less than this because the Horde says so is the ordinary course of things.
LONG_PAUSE_S = 60.0
#: So long a key that was known may be unknown before that is believed.
KEY_PATIENCE_S = 900.0
KNOWN_BEFORE = "It knew the key before, so this may pass; the worker ends when it lasts."
#: Messages of the Horde remembered as told.
MOST_TOLD = 200
#: Characters of one that are shown: they are meant to be read.
LONGEST_MESSAGE = 4000


@dataclass
class Standing:
    """Times are seconds of a monotonic clock."""

    #: why the last pop brought no answer, if that is worth telling; empty while all is well
    trouble: str = ""
    maintenance: bool = False
    #: when the first of the pops in a row was turned down
    _since: float | None = field(default=None, init=False)
    _said_at: float = field(default=0.0, init=False)
    _told: dict[str, None] = field(default_factory=dict, init=False)
    _key_was_known: bool = field(default=False, init=False)
    _key_unknown_since: float | None = field(default=None, init=False)

    def is_passing(self, error: HordeRefused, *, now: float) -> bool:
        """Whether a refusal may be a trouble of the Horde's own, and another pop makes sense."""
        if not isinstance(error, HordeKeyUnknown) or not self._key_was_known:
            return False
        return self._key_unknown_since is None or now - self._key_unknown_since < KEY_PATIENCE_S

    def failed(self, error: HordeError, *, pause_s: float, now: float) -> None:
        """A pop was turned down or got no answer."""
        self._since = now if self._since is None else self._since
        trouble, self.maintenance = str(error), isinstance(error, HordeMaintenance)
        self._key_was_known = self._key_was_known or self.maintenance
        if isinstance(error, HordeKeyUnknown):
            self._key_unknown_since = now if self._key_unknown_since is None else self._key_unknown_since
            trouble = f"{error} {KNOWN_BEFORE}"
        else:
            self._key_unknown_since = None
        if isinstance(error, HordeBusy) and now + pause_s - self._since < LONG_PAUSE_S:
            return
        is_news, self.trouble = trouble != self.trouble, trouble
        if is_news or now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            action = "maintenance" if self.maintenance else "pop_failed"
            logger.bind(action=action).warning("No jobs, next try in {:.0f} s: {}", pause_s, trouble)

    def answered(self, messages: Iterable[Message], *, now: float) -> None:
        """A pop was answered, with or without a job."""
        self._key_was_known, self._key_unknown_since = True, None
        if self.trouble and self._since is not None:
            logger.bind(action="horde_back").info("The Horde gives jobs again, after {}.", duration(now - self._since))
        self.trouble, self.maintenance, self._since = "", False, None
        for message in messages:
            key = message.id or message.message
            if key not in self._told:
                words = quote(message.message, longest=LONGEST_MESSAGE)
                logger.bind(action="message").info("Message from the Horde: {}", words)
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
