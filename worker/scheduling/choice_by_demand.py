"""The models that are offered while the owner lets demand choose, with the reasons; one line in the log for a change.

Named models are always offered. The places beside them go to those of the others that are asked for; what jobs under
way need is not touched, for a model that is not offered stays here all the same.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from loguru import logger

from worker.bounded_dict import BoundedDict
from worker.clock import Clock, duration, monotonic
from worker.config.schema import BridgeData
from worker.horde.demand import Asked, Demand
from worker.jobs.inputs import ModelSource
from worker.jobs.job import JobEvent, Stage
from worker.scheduling.demand_policy import ChoiceTimes, Worth, choose, others, passed_over, wanted_since, worth
from worker.units import counted
from worker.untrusted.text import visible

#: Late jobs remembered of each model, and models that brought any.
MOST_JOBS, MOST_MODELS = 100, 1000
#: Seconds for which the Horde may count this worker's threads for a model that it offers no more.
COUNTED_S = 120.0
NAMED = "named by you, always offered"
NOT_FOR_US = "jobs wait for it, and none of them is for this worker"


@dataclass(eq=False)
class ChoiceByDemand:
    """Subscribe `note` to the job events; `offered` is asked for every pop."""

    config: Callable[[], BridgeData]
    demand: Demand
    _: KW_ONLY
    models: ModelSource
    #: those that pops tell of
    threads: Callable[[], int]
    #: seconds since the last job in which an idle engine asked for one
    in_vain_s: Callable[[], float]
    times: ChoiceTimes = field(default_factory=ChoiceTimes)
    clock: Clock = monotonic
    #: why each model is offered, or is not; empty while all are
    offered_because: Mapping[str, str] = field(default_factory=dict, init=False)
    withheld_because: Mapping[str, str] = field(default_factory=dict, init=False)
    #: chosen models, with since when
    _served: dict[str, float] = field(default_factory=dict, init=False)
    #: models whose jobs are not for this worker, until when
    _passed_over: dict[str, float] = field(default_factory=dict, init=False)
    #: models to fetch, by since when they are wanted
    _wanted: dict[str, float] = field(default_factory=dict, init=False)
    _told_trouble: bool = field(default=False, init=False)
    _told_start: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._brought: BoundedDict[str, deque[float]] = BoundedDict(MOST_MODELS)
        #: models that were offered, with when they were last
        self._left: BoundedDict[str, float] = BoundedDict(MOST_MODELS)
        self.demand.wanted_when(lambda: self.is_on)

    @property
    def is_on(self) -> bool:
        """Whether the owner lets demand choose."""
        return self.config().chooses_by_demand

    @property
    def sentence(self) -> str:
        """How the models are chosen now; empty while all are offered."""
        if not self.offered_because:
            return ""
        looked_at, trouble = self.demand.looked_at, self.demand.trouble.rstrip(".")
        text = f"{len(self._served)} of {len(self._served) + len(self.withheld_because)} models are chosen by demand"
        if not self._served and not self.withheld_because:
            text = "Demand has no model to choose among, all are named by you"
        if more := len(self.models.fetchable()):
            text += f" ({more} more may be fetched)"
        if looked_at is None:
            known = f"the Horde did not say what is asked for ({trouble})" if trouble else "the Horde was not asked yet"
            return f"{text}: the first of your list, for {known}."
        ago = duration(max(0.0, self.clock() - looked_at))
        if trouble:
            return f"{text}; what is asked for is not known for {ago} ({trouble}), so the choice stays."
        return f"{text}, as it was {ago} ago."

    def note(self, event: JobEvent) -> None:
        if event.stage is Stage.POPPED and event.job.pop.model:
            self._brought.setdefault(event.job.pop.model, deque(maxlen=MOST_JOBS)).append(self.clock())
            self._passed_over.pop(event.job.pop.model, None)

    def offered(self, here: Sequence[str]) -> tuple[str, ...]:
        """Those of the models that can be served to offer now, in the owner's order."""
        if not self.is_on:
            self._forget()
            return tuple(here)
        now, most = self.clock(), self.config().number_of_dynamic_models
        named = set(self.models.named()).intersection(here)
        candidates = [name for name in here if name not in named]
        asked = self.demand.asked()
        self._tell_of_trouble()
        if self.demand.is_fresh:
            worths = self._worths(candidates, asked, now)
            self._pass_over(worths, now)
            worths = {name: good for name, good in worths.items() if name not in self._passed_over}
        else:
            # Nothing is changed by figures of long ago.
            worths = {}
        before, self._served = self._served, choose(
            candidates, worths, self._served, most=most, now=now, times=self.times
        )  # fmt: skip
        if self.demand.is_fresh:
            self._fetch(worths, asked, most=most, now=now)
        else:
            # What was asked for meanwhile nobody knows.
            self._wanted = {}
        self._left.update({name: now for name in before if name not in self._served})
        self._explain(candidates, named, asked)
        self._tell(before, len(candidates), len(named))
        return tuple(name for name in here if name in named or name in self._served)

    def _worths(self, candidates: Sequence[str], asked: Mapping[str, Asked], now: float) -> dict[str, Worth]:
        since = now - self.times.brought_s
        return {
            name: worth(
                asked.get(name),
                own_threads=self._own_threads(name),
                brought=sum(at >= since for at in self._brought.get(name, ())),
            )
            for name in candidates
        }

    def _fetch(self, worths: Mapping[str, Worth], asked: Mapping[str, Asked], *, most: int, now: float) -> None:
        """Have the model fetched that is wanted most, if one was wanted long enough."""
        absent = self.models.fetchable()
        worths = {**worths, **{name: worth(asked.get(name)) for name in absent}}
        self._wanted = wanted_since(absent, worths, self._served, self._wanted, most=most, now=now)
        ripe = [name for name, since in self._wanted.items() if now - since >= self.times.fetch_after_s]
        if ripe:
            name = max(ripe, key=lambda each: worths[each].lasting)
            self._wanted = {}
            logger.bind(action="fetch_by_demand", model=name).info(
                "Choice by demand: {} is fetched, {} for it for {}.",
                visible(name), _waiting(asked[name].jobs), duration(self.times.fetch_after_s),
            )  # fmt: skip
            self.models.fetch(name)

    def _own_threads(self, name: str) -> float:
        offered = name in self._served or self.clock() - self._left.get(name, float("-inf")) <= COUNTED_S
        return float(self.threads()) if offered else 0.0

    def _pass_over(self, worths: Mapping[str, Worth], now: float) -> None:
        self._passed_over = {name: until for name, until in self._passed_over.items() if until > now}
        fresh = {name: since for name, since in self._served.items() if name not in self._passed_over}
        in_vain_s, looked_at = self.in_vain_s(), self.demand.looked_at
        if looked_at is None or now - looked_at > in_vain_s:
            # What waited before then may have been done here.
            return
        for name in passed_over(fresh, worths, in_vain_s=in_vain_s, now=now, times=self.times):
            self._passed_over[name] = now + self.times.passed_over_s

    def _explain(self, candidates: Sequence[str], named: Collection[str], asked: Mapping[str, Asked]) -> None:
        why = {name: self._why(name, asked) for name in candidates}
        self.offered_because = {**dict.fromkeys(named, NAMED), **{name: why[name] for name in self._served}}
        self.withheld_because = {name: why[name] for name in candidates if name not in self._served}

    def _why(self, name: str, asked: Mapping[str, Asked]) -> str:
        if name in self._passed_over:
            return NOT_FOR_US
        served = name in self._served
        found = asked.get(name)
        if self.demand.looked_at is None:
            return (
                "first of your list until the Horde says what is asked for" if served else "not the first of your list"
            )
        jobs, threads = (found.jobs, others(found, self._own_threads(name))) if found else (0.0, 0.0)
        figures = f"{_waiting(jobs)}, {counted(threads, 'thread')} of others"
        if served:
            return f"chosen by demand: {figures}" if jobs else f"no other is asked for more: {figures}"
        return f"not asked for now: {figures}" if jobs == 0 else f"others are asked for more: {figures}"

    def _tell(self, before: Mapping[str, float], candidates: int, named: int) -> None:
        if not self._told_start and (self._served or named):
            self._told_start = True
            among = min(self.config().number_of_dynamic_models, candidates)
            first = ", ".join(map(visible, self._served))
            logger.bind(action="choice_on").info(
                "Choice by demand: {}, and {} named by you always.",
                f"{among} of {counted(candidates, 'model')} offered at a time, first {first}" if candidates
                else "there is no model to choose among", named,
            )  # fmt: skip
            return
        left = [visible(name) for name in before if name not in self._served]
        joined = [f"{visible(name)} ({self.offered_because[name]})" for name in self._served if name not in before]
        if joined:
            logger.bind(action="choice_changed").info(
                "Choice by demand: {}{}.", ", ".join(joined), f" in place of {', '.join(left)}" if left else ""
            )

    def _tell_of_trouble(self) -> None:
        trouble = self.demand.trouble
        if trouble and not self._told_trouble:
            logger.bind(action="demand_unknown").warning(
                "What is asked for can't be looked up, so the choice of models stays as it is: {}", trouble
            )
        if not trouble and self._told_trouble:
            logger.bind(action="demand_known").info("What is asked for is known again.")
        self._told_trouble = bool(trouble)

    def _forget(self) -> None:
        if self._told_start:
            logger.bind(action="choice_off").info("Choice by demand is off: every model here is offered.")
        self._served, self._passed_over, self._wanted = {}, {}, {}
        self._told_trouble = self._told_start = False
        self.offered_because = self.withheld_because = {}


def _waiting(jobs: float) -> str:
    return f"{counted(jobs, 'job')} wait{'s' if round(jobs) == 1 else ''}"
