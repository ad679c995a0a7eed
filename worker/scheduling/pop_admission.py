"""The one answer to "pop now?": this pop, or wait so long because. Why nothing is popped right now is decided here.

Jobs are popped just in time: one for every engine that takes jobs, and one more for the owner's queue when an engine
is about to run dry. A job leaves room again as soon as it needs no engine any more, so that delivery never holds up
the next one; those that wait long for their files make room as well, for one more per engine.
"""

import errno
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from loguru import logger

from worker.clock import Clock, monotonic
from worker.config.schema import BridgeData
from worker.engine.pool import EnginePool
from worker.errors import WorkerError
from worker.horde.messages import PopRequest
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.inputs import ModelSource
from worker.jobs.job import Stage
from worker.safety.checker import SafetyChecker
from worker.scheduling.choice_by_demand import ChoiceByDemand
from worker.scheduling.fault_limiter import FaultLimiter
from worker.scheduling.offer import Capabilities, build_offer
from worker.scheduling.owner_pause import OwnerPause
from worker.scheduling.planner import Capacity, Planner
from worker.scheduling.pop_backoff import PopBackoff
from worker.scheduling.wait_log import ORDINARY, WaitKind, WaitLog, WaitReason
from worker.system_memory import system_memory
from worker.units import GIB

#: A job that has waited so long for its files makes room for one that can begin at once.
FILES_PATIENCE_S = 2.0
#: How often to decide anew where nobody announces that a reason is over, and where the time is known.
LOOK_AGAIN_S, LONGEST_WAIT_S = 0.5, 5.0
#: The same while it is being found out what can be served, which takes a fraction of a second.
SURVEY_LOOK_S = 0.05
#: Memory and disk are looked at this often.
READINGS_EVERY_S = 5.0
#: Reasons that come and go with every job are told once they last this long.
PASSING_S = 20.0
#: After a change of models it is found out within this time what can be served.
SURVEYED_S = 2.0
#: Models that a sentence names at most.
MOST_NAMED = 3


@dataclass(frozen=True)
class Admitted:
    """Send this pop now."""

    request: PopRequest
    #: an engine has nothing to do; else it is for the queue
    for_idle_engine: bool = True


@dataclass(frozen=True)
class Wait:
    """Send none; decide again after so many seconds, or as soon as something changes."""

    seconds: float
    reasons: tuple[WaitReason, ...]


@dataclass
class MachineLimits:
    """What must be left free on this machine for another job to be taken. Bytes."""

    #: the disk that the engines write to
    folder: Path
    memory: int = GIB
    disk: int = GIB
    #: bytes that were free at the last look; None: not known
    memory_free: int | None = field(default=None, init=False)
    disk_free: int | None = field(default=None, init=False)
    _readings_at: float = field(default=float("-inf"), init=False)
    _reason: WaitReason | None = field(default=None, init=False)

    def wait(self, now: float) -> WaitReason | None:
        """Why no job should be taken, by a look that is a few seconds old at most."""
        if now - self._readings_at > READINGS_EVERY_S:
            self._readings_at = now
            try:
                self.disk_free = shutil.disk_usage(self.folder).free
            except OSError as error:
                # An engine that can't write there fails by itself, and says so.
                logger.debug("The disk of {} can't be looked at: {}", self.folder, error)
                self.disk_free = None
            try:
                self.memory_free = system_memory().available
            except OSError as error:
                # Without a file descriptor left a job would fail as well.
                self.memory_free = None
                sentence = f"The free memory can't be read: {error.strerror}."
                remedy = "Allow the worker more open files (ulimit -n)." if error.errno == errno.EMFILE else ""
                self._reason = WaitReason(WaitKind.MACHINE, sentence, remedy=remedy, tell_after_s=PASSING_S)
            else:
                self._reason = self.reason(self.memory_free, self.disk if self.disk_free is None else self.disk_free)
        return self._reason

    def reason(self, memory_free: int, disk_free: int) -> WaitReason | None:
        """Why no job should be taken with so many bytes free."""
        if memory_free < self.memory:
            sentence, remedy = f"Only {memory_free / GIB:.1f} GiB of memory are free.", "Close other programs."
        elif disk_free < self.disk:
            sentence, remedy = f"Only {disk_free / GIB:.1f} GiB are free on the disk of {self.folder}.", "Make room."
        else:
            return None
        return WaitReason(WaitKind.MACHINE, sentence, remedy=remedy, tell_after_s=PASSING_S)


@dataclass
class Admission:
    """Decides by all of its parts, and tells the owner why nothing is popped."""

    config: Callable[[], BridgeData]
    models: ModelSource
    pool: EnginePool
    planner: Planner
    #: what can be served now; None while that is being found out
    capabilities: Callable[[], Capabilities | None]
    in_flight: JobsInFlight
    pop_backoff: PopBackoff
    faults: FaultLimiter
    safety: SafetyChecker
    #: what is free on this machine, and must be
    machine: MachineLimits
    pause: OwnerPause = field(default_factory=OwnerPause)
    #: how demand chooses among the models that could be offered; None: every model is offered
    choice: ChoiceByDemand | None = None
    clock: Clock = monotonic
    _report: WaitLog = field(default_factory=WaitLog, init=False)
    _found: Capabilities | None = field(default=None, init=False)

    @property
    def reasons(self) -> tuple[WaitReason, ...]:
        """Why nothing is popped at present, as far as that is worth telling."""
        return self._report.told

    def since(self, reason: WaitReason) -> float | None:
        """When one of `reasons` came up, on the monotonic clock."""
        return self._report.since(reason)

    @property
    def not_offered(self) -> dict[str, str]:
        """Switches that the owner left on, models and kinds of jobs that can't be offered, with the reason."""
        return dict(self._found.off) if self._found else {}

    def decide(self, *, asking: int, fetch_s: float) -> Admitted | Wait:
        """The next pop, or why there is none, with `asking` pops under way that take `fetch_s` seconds each.

        Raises WorkerError after faults in a row where the owner wants an end in place of a pause.
        """
        now = self.clock()
        decision = self._decide(asking, fetch_s, now)
        reasons = decision.reasons if isinstance(decision, Wait) else ()
        if any(reason.kind not in ORDINARY for reason in reasons):
            self.pop_backoff.interrupted()
        # To ask the Horde once more does not end its trouble; an answer does.
        self._report.note((*reasons, *((self.pop_backoff.trouble,) if self.pop_backoff.trouble else ())), now)
        if self.config().exit_on_unhandled_faults and self.faults.is_in_a_row():
            raise WorkerError(
                f"{self.faults.in_a_row} jobs in a row were faulted, and exit_on_unhandled_faults is on.",
                remedy="The log says why each was.",
            )
        return decision

    def _decide(self, asking: int, fetch_s: float, now: float) -> Admitted | Wait:
        hold = self.safety.hold()
        capacity = self.planner.capacity()
        possible = (
            self.pause.wait(now),
            self.pop_backoff.wait(now),
            self.machine.wait(now),
            WaitReason(WaitKind.SAFETY, _sentence(hold), tell_after_s=PASSING_S) if hold else None,
            self.faults.wait(),
            *([] if capacity.engines else self._no_engine()),
        )
        reasons = [reason for reason in possible if reason]
        if not reasons and (enough := self._enough(capacity, asking, fetch_s, now)):
            reasons = [WaitReason(WaitKind.ENOUGH, enough)]
        if reasons:
            return _wait(reasons, now)
        images = self.faults.images_left(self.in_flight.jobs, asked=asking * self.config().max_batch)
        if not images:
            sentence = "As many images are under way as may be faulted without the Horde's 20 an hour being passed."
            return _wait([WaitReason(WaitKind.FAULTS, sentence, tell_after_s=PASSING_S, topic="risk")], now)
        request = self._request(asking, images, now)
        if isinstance(request, WaitReason):
            return _wait([request], now)
        return Admitted(request, for_idle_engine=len(self.in_flight.needing_engine) + asking < capacity.engines)

    def _enough(self, capacity: Capacity, asking: int, fetch_s: float, now: float) -> str:
        """Why the jobs and pops under way suffice; empty when they do not."""
        if asking >= self.pop_backoff.pops_at_once:
            return "A pop is under way."
        jobs = self.in_flight.needing_engine
        waiting = sum(job.stage is Stage.FETCHING and now - job.received_at >= FILES_PATIENCE_S for job in jobs)
        held = len(jobs) + asking - min(waiting, capacity.engines)
        if held >= capacity.engines + capacity.queue:
            return "Every engine has a job, and the queue is full."
        if held >= capacity.engines and capacity.idle_in_s > max(capacity.lead_s, 3 * fetch_s):
            return "Every engine has work for a while."
        return ""

    def _no_engine(self) -> list[WaitReason]:
        shortages = [
            WaitReason(WaitKind.CARDS, _sentence(f"device {device}: {why}"), tell_after_s=PASSING_S, topic=device)
            for device, why in self.pool.shortages.items()
        ]
        states = ", ".join(f"engine {slot.number} is {slot.state.value}" for slot in self.pool.slots)
        down = WaitReason(WaitKind.ENGINES, _sentence(f"no engine takes jobs: {states}"), tell_after_s=PASSING_S)
        return shortages or [down]

    def _request(self, asking: int, images: int, now: float) -> PopRequest | WaitReason:
        """The pop to send, or why there is none."""
        self._found = capabilities = self.capabilities()
        if capabilities is None:
            return WaitReason(WaitKind.ENOUGH, "What can be served is being found out.", now + SURVEY_LOOK_S)
        if not self.models.names():
            return self._models("no model is here yet", self.models.state().failed)
        plan = self.planner.plan(asking)
        if plan is None:
            withdrawn = self.planner.withdrawn
            if withdrawn and not set(self.models.names()) - withdrawn.keys():
                return self._models("every model is withdrawn for now", withdrawn)
            until = now + self.planner.size_forgotten_in_s()
            sentence = "The Horde may still send larger pictures than can be made now, until it goes by the new size."
            return WaitReason(WaitKind.SIZE, sentence, until, tell_after_s=PASSING_S)
        request = build_offer(self.config(), capabilities, replace(plan, amount=min(plan.amount, images)))
        return request or self._models("no model here can be served", dict(capabilities.off))

    @staticmethod
    def _models(what: str, why: Mapping[str, str]) -> WaitReason:
        named = [f"{name} ({reason})" for name, reason in why.items()][:MOST_NAMED]
        sentence = _sentence(f"{what}: {'; '.join(named)}" if named else what)
        return WaitReason(WaitKind.MODELS, sentence, tell_after_s=SURVEYED_S, topic=what)


def _sentence(text: str) -> str:
    """With a capital first letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _wait(reasons: list[WaitReason], now: float) -> Wait:
    """Until the last of the reasons is over, as far as known, but looking again in time for what nobody announces."""
    untils = [reason.until for reason in reasons if reason.until is not None]
    if len(untils) == len(reasons):
        return Wait(min(max(max(untils) - now, 0.01), LONGEST_WAIT_S), tuple(reasons))
    return Wait(LOOK_AGAIN_S, tuple(reasons))
