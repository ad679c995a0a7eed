"""Tells the reasons that `pop_admission` found for not asking, once each; the reasons are values."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from loguru import logger

from worker.clock import duration

#: A span shorter than this is not told, for it says nothing; in seconds.
LEAST_TOLD_S = 60.0
#: A reason that lasts is told again so often.
SAY_AGAIN_S = 600.0


class WaitKind(str, Enum):
    """What keeps the worker from popping."""

    #: jobs and pops under way are as many as make sense
    ENOUGH = "enough"
    #: the last pop brought no job
    NOTHING_CAME = "nothing_came"
    #: the Horde turned the last pop down, or gave no answer
    HORDE = "horde"
    MAINTENANCE = "maintenance"
    #: the owner paused it
    OWNER = "owner"
    #: too many images were faulted
    FAULTS = "faults"
    #: memory or disk of this machine
    MACHINE = "machine"
    SAFETY = "safety"
    #: no engine runs
    ENGINES = "engines"
    #: other programs use the cards
    CARDS = "cards"
    #: no model can be offered
    MODELS = "models"
    #: the Horde may still go by a larger size than any model can do
    SIZE = "size"


#: The ordinary course of things: nothing to tell.
ORDINARY = frozenset({WaitKind.ENOUGH, WaitKind.NOTHING_CAME})


@dataclass(frozen=True)
class WaitReason:
    """One reason. `sentence` ends with a full stop; `until` is on the monotonic clock, None where nobody knows."""

    kind: WaitKind
    sentence: str
    until: float | None = None
    #: `until` is no end but the next try
    tries_again: bool = False
    #: what the owner can do; may be empty
    remedy: str = ""
    #: it is told once it lasts this long, or is known to
    tell_after_s: float = 0.0
    #: reasons of one topic are the same reason, whatever numbers their sentences have; empty: the kind
    topic: str = ""


@dataclass
class _Lasting:
    """A reason since it came up."""

    since: float
    told_at: float | None = None


class WaitLog:
    """Tells the owner of reasons that last, once each, and when all of them are over."""

    def __init__(self) -> None:
        self._lasting: dict[str, _Lasting] = {}
        self._told_since: float | None = None
        #: those that hold now and were told
        self.told: tuple[WaitReason, ...] = ()

    def since(self, reason: WaitReason) -> float | None:
        """When a reason that holds now came up; None for any other."""
        lasting = self._lasting.get(_topic(reason))
        return lasting.since if lasting else None

    def note(self, reasons: Iterable[WaitReason], now: float) -> None:
        """These hold now, and no others."""
        holding = {_topic(reason): reason for reason in reasons if reason.kind not in ORDINARY}
        self._lasting = {topic: self._lasting.get(topic) or _Lasting(now) for topic in holding}
        for topic, reason in holding.items():
            lasting = self._lasting[topic]
            if max(now, reason.until or now) - lasting.since < reason.tell_after_s:
                continue
            if lasting.told_at is None or now - lasting.told_at >= SAY_AGAIN_S:
                lasting.told_at = now
                _tell(reason, now)
        told = [topic for topic, lasting in self._lasting.items() if lasting.told_at is not None]
        self.told = tuple(holding[topic] for topic in told)
        if told and self._told_since is None:
            self._told_since = min(self._lasting[topic].since for topic in told)
        elif not told and self._told_since is not None:
            lasted = duration(now - self._told_since)
            logger.bind(action="popping_again").info("Asking for jobs again, after {}.", lasted)
            self._told_since = None


def _topic(reason: WaitReason) -> str:
    return reason.topic or reason.kind.value


def _tell(reason: WaitReason, now: float) -> None:
    span = ""
    if reason.until is not None and reason.until - now >= LEAST_TOLD_S:
        span = f"{', next try in' if reason.tries_again else ' for'} {duration(max(reason.until - now, 0.0))}"
    logger.bind(action="not_popping", kind=reason.kind.value).warning(
        "No new jobs{}: {}", span, f"{reason.sentence} {reason.remedy}".strip()
    )
