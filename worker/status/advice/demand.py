"""What waits at the Horde for each model, looked up now and then while an engine is idle."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loguru import logger

from worker.clock import Clock, monotonic
from worker.errors import HordeError
from worker.horde.client import HordeClient
from worker.status.advice.arrivals import Arrivals, Rate
from worker.status.asked import LONGEST_NAME
from worker.untrusted.text import visible

#: The server makes these figures anew every ten seconds; they matter over an hour.
LOOK_EVERY_S = 60.0
#: Whether it is worth a look is asked so often.
ASK_EVERY_S = 3.0


@dataclass(frozen=True)
class ModelNeed:
    """What is asked of one model."""

    name: str
    #: images that wait, and what could be had within an hour at most, by all workers together
    rate: Rate
    #: threads that serve it
    served_by: float
    #: seconds until what waits is done
    eta_s: float


class Demand:
    """`run` is its life; the rest may be read at any time."""

    def __init__(self, horde: HordeClient, wanted: Callable[[], bool], *, clock: Clock = monotonic) -> None:
        """`wanted` says whether it is worth a look now."""
        self._horde = horde
        self._wanted = wanted
        self._clock = clock
        self._arrivals = Arrivals()
        self._last: dict[str, tuple[float, float]] = {}
        #: images that wait at the Horde in all; None: not known
        self.queued: float | None = None

    async def run(self, every_s: float = LOOK_EVERY_S) -> None:
        """Look until cancelled. A Horde that does not answer leaves what was known."""
        while True:
            if not self._wanted():
                await asyncio.sleep(min(ASK_EVERY_S, every_s))
                continue
            try:
                await self.look()
            except HordeError as error:
                logger.debug("What is asked for can't be looked up: {}", error)
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """Look once. Raises HordeError."""
        models = await self._horde.model_demand()
        self.queued = (await self._horde.performance()).queued_requests
        named = {visible(each.name, longest=LONGEST_NAME): each for each in models if each.name}
        self._last = {name: (each.count, each.eta) for name, each in named.items()}
        self._arrivals.note(self._clock(), {name: each.jobs for name, each in named.items() if each.jobs > 0})

    def needs(self) -> Mapping[str, ModelNeed]:
        """By model, those that something waits for or came for within the hour."""
        return {
            name: ModelNeed(name, rate, *self._last.get(name, (0.0, 0.0)))
            for name, rate in self._arrivals.rates(self._clock()).items()
        }
