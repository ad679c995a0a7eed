"""What waits at the Horde for each model: the one look at it, for whoever wants to know.

Advice and the choice of models read the same figures, so that the Horde is asked once a minute at most.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from loguru import logger

from worker.clock import Clock, monotonic
from worker.errors import HordeError
from worker.horde.arrivals import LONGEST_GAP_S, Arrivals, Rate
from worker.horde.messages import HordePerformance, ModelDemand
from worker.untrusted.text import visible

#: The server makes these figures anew every ten seconds; they matter over minutes.
LOOK_EVERY_S: Final = 60.0
#: Whether it is worth a look is asked so often.
ASK_EVERY_S: Final = 3.0
#: Characters shown of a model's name.
LONGEST_NAME: Final = 60
#: The Horde takes no longer name of a model, and knows some 150 of them.
LONGEST_KNOWN: Final = 255
MOST_MODELS: Final = 1000
#: The largest figure that is believed.
LARGEST: Final = 1e6


class TellsDemand(Protocol):
    """The part of the Horde's client that is asked."""

    async def model_demand(self) -> list[ModelDemand]:
        """What waits for each image model. Raises HordeError."""
        ...

    async def performance(self) -> HordePerformance:
        """How much waits in all. Raises HordeError."""
        ...


@dataclass(frozen=True)
class ModelNeed:
    """What is asked of one model."""

    name: str
    #: images that wait, and what could be had within an hour at most, by all workers together
    rate: Rate
    #: threads that serve it
    served_by: float


@dataclass(frozen=True)
class Asked:
    """What waits for one model at this moment."""

    #: images that waited at the last look
    jobs: float
    #: threads that serve it, this worker's among them
    served_by: float
    #: images that waited at the last look and at the one before it: what waits at one look alone may be gone soon
    lasting: float


class Demand:
    """`run` is its life; the rest may be read at any time."""

    def __init__(self, horde: TellsDemand, *, every_s: float = LOOK_EVERY_S, clock: Clock = monotonic) -> None:
        self._horde = horde
        self._every_s = every_s
        self._clock = clock
        self._wanted: list[Callable[[], bool]] = []
        self._arrivals = Arrivals()
        self._last: dict[str, ModelDemand] = {}
        self._asked: Mapping[str, Asked] = {}
        #: images that wait at the Horde in all; None: not known
        self.queued: float | None = None
        #: when the last look succeeded; None: none has
        self.looked_at: float | None = None
        #: why the last look failed; empty: it did not
        self.trouble = ""

    @property
    def is_fresh(self) -> bool:
        """Whether the last look is recent enough to act on."""
        return self.looked_at is not None and self._clock() - self.looked_at <= LONGEST_GAP_S

    def wanted_when(self, wanted: Callable[[], bool]) -> None:
        """Look as long as this, or any other that was given, says that it is worth it."""
        self._wanted.append(wanted)

    async def run(self) -> None:
        """Look until cancelled. A Horde that does not answer leaves what was known."""
        while True:
            if not any(wanted() for wanted in self._wanted):
                await asyncio.sleep(min(ASK_EVERY_S, self._every_s))
                continue
            try:
                await self.look()
            except HordeError as error:
                logger.debug("What is asked for can't be looked up: {}", error)
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """Look once. Raises HordeError."""
        try:
            models = await self._horde.model_demand()
        except HordeError as error:
            self.trouble = error.message
            raise
        self._note(models)
        self.queued = (await self._horde.performance()).queued_requests

    def _note(self, models: Sequence[ModelDemand]) -> None:
        now = self._clock()
        busiest = sorted(models, key=lambda each: -each.jobs)[:MOST_MODELS]
        before = {name: _sane(each.jobs) for name, each in self._last.items()} if self.is_fresh else None
        # Of a name that stands there twice the largest figure counts.
        self._last = {each.name: each for each in reversed(busiest) if 0 < len(each.name) <= LONGEST_KNOWN}
        self._arrivals.note(now, {name: jobs for name, each in self._last.items() if (jobs := _sane(each.jobs)) > 0})
        self._asked = {name: _asked(each, before) for name, each in self._last.items()}
        self.looked_at, self.trouble = now, ""

    def needs(self) -> Mapping[str, ModelNeed]:
        """By model as it is shown, those that something waits for or came for within the hour."""
        found = {}
        for name, rate in self._arrivals.rates(self._clock()).items():
            last, shown = self._last.get(name, ModelDemand()), visible(name, longest=LONGEST_NAME)
            found[shown] = ModelNeed(shown, rate, _sane(last.count))
        return found

    def asked(self) -> Mapping[str, Asked]:
        """By model, what the last look found."""
        return self._asked


def _asked(last: ModelDemand, before: Mapping[str, float] | None) -> Asked:
    jobs = _sane(last.jobs)
    return Asked(jobs, _sane(last.count), jobs if before is None else min(jobs, before.get(last.name, 0.0)))


def _sane(figure: float) -> float:
    return min(max(figure, 0.0), LARGEST)
