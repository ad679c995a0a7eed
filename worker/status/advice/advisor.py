"""Advice for the running worker: hears its pops, reads the Horde's demand, follows what the owner changes."""

import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace

from worker.clock import Clock, monotonic
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.horde.arrivals import Arrivals
from worker.horde.demand import Demand
from worker.jobs.job import PopEvent
from worker.status.advice.earnings import SWITCHES, Facts, advise
from worker.status.advice.predictions import Predictions
from worker.status.snapshot import AdviceView, JobRecord, PredictionView
from worker.system_memory import system_memory

#: Advice is made anew this often at most, in seconds, and not before the queue was watched so long.
FRESH_S = 10.0
LEAST_WATCHED_S = 5.0
#: Below this part of the time an engine is busy enough: other jobs would only take the place of those that come.
LEAST_IDLE = 0.05


@dataclass(eq=False)
class Advisor:
    """Subscribe `note` to pops, `ended` to jobs that end."""

    live: LiveConfig
    demand: Demand
    _: KW_ONLY
    #: what the worker itself knows of the facts
    facts: Callable[[], Facts]
    clock: Clock = monotonic
    wall: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._reasons = Arrivals()
        self._predictions = Predictions(self.wall)
        self._fresh: tuple[float, tuple[AdviceView, ...]] | None = None
        self.demand.wanted_when(lambda: self.facts().idle >= LEAST_IDLE)
        self.live.subscribe(self._changed)

    def note(self, event: PopEvent) -> None:
        """A pop came back: an empty one tells what passed the worker by."""
        if event.answer is None or event.answer.job_ids:
            return
        self._reasons.note(self.clock(), event.answer.passed_over({*SWITCHES, "models"}))

    def ended(self, job: JobRecord) -> None:
        self._predictions.ended(job)

    def advice(self) -> tuple[AdviceView, ...]:
        """What would earn more, the best first; empty while it is too early to tell, or where the engines are busy."""
        now = self.clock()
        if self._fresh is None or now - self._fresh[0] > FRESH_S:
            self._fresh = now, self._advise(now)
        return self._fresh[1]

    def predictions(self) -> tuple[PredictionView, ...]:
        """What became of advice that was followed."""
        return self._predictions.views()

    def _advise(self, now: float) -> tuple[AdviceView, ...]:
        facts = self.facts()
        if facts.idle < LEAST_IDLE or self._reasons.watched_s < LEAST_WATCHED_S:
            return ()
        return advise(
            replace(
                facts,
                reasons=self._reasons.rates(now),
                models=self.demand.needs(),
                queued=self.demand.queued,
                watched_s=self._reasons.watched_s,
                memory=system_memory().total,
            )
        )

    def _changed(self, before: BridgeData, after: BridgeData) -> None:
        self._predictions.changed(before, after, self.advice() if self._fresh is None else self._fresh[1])
        for reason, switch in SWITCHES.items():
            if getattr(before, switch.key) != getattr(after, switch.key):
                self._reasons.forget(reason)  # most of what passed by then would come now
        self._fresh = None
