"""The status of the running worker, read from its parts when somebody looks."""

import asyncio
import platform
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from worker import __version__
from worker.clock import Clock, monotonic
from worker.config.live import LiveConfig
from worker.engine.pool import EnginePool
from worker.engine.slot import EngineSlot, SlotState
from worker.horde.client import HordeClient
from worker.horde.demand import Demand
from worker.jobs.flat_pictures import FlatPictures
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.inputs import ModelSource
from worker.jobs.job import Job, JobEvent, JobEvents
from worker.scheduling.choice_by_demand import ChoiceByDemand
from worker.scheduling.estimates import Estimates
from worker.scheduling.pop_admission import Admission
from worker.status.advice.advisor import Advisor, Work
from worker.status.job_book import EndListener, JobBook
from worker.status.keeper import Keeper
from worker.status.log_tail import LogTail
from worker.status.session import SessionStats
from worker.status.shown_jobs import ShownJobs
from worker.status.snapshot import (
    DownloadView,
    HourOfWork,
    JobRecord,
    JobView,
    LogLine,
    Machine,
    ModelView,
    PauseView,
    Phase,
    Session,
    SlotView,
    Snapshot,
    StageTimes,
    Versions,
)
from worker.status.standing import StandingWatch
from worker.status.steering import Steering
from worker.status.warnings import WarningBook
from worker.status.watchers import Watchers
from worker.untrusted.text import in_brief, visible

#: A snapshot serves everybody who looks within so many seconds.
FRESH_S = 0.3
#: An engine's memory is measured this often, in seconds: it means reading files of every one of its processes.
MEMORY_EVERY_S = 10.0
#: Jobs that ended, in a snapshot.
ENDED_SHOWN = 20
#: Running time below which a rate means nothing, in seconds.
LEAST_S = 60.0
HOUR_S = 3600.0
#: Models whose largest pictures are looked up for advice.
MODELS_LOOKED_AT = 50

#: Called with a job and its stage, as a value of `worker.jobs.job.Stage`.
StageListener = Callable[[JobView, str], None]


@dataclass(frozen=True)
class StatusParts:
    """What there is from the start."""

    live: LiveConfig
    horde: HordeClient
    demand: Demand
    pool: EnginePool
    models: ModelSource
    events: JobEvents
    in_flight: JobsInFlight
    estimates: Estimates
    agent: str
    steering: Steering
    #: keeps the history over restarts; None: it ends with the run
    history: Path | None = None
    flat_pictures: FlatPictures = field(default_factory=FlatPictures)


class StatusBoard:
    """One for each run of a worker. Called on the event loop."""

    def __init__(self, parts: StatusParts, *, clock: Clock = monotonic, wall: Callable[[], float] = time.time) -> None:
        self._parts = parts
        self._clock = clock
        self._wall = wall
        self._started_at, self._since = wall(), clock()
        self._admission: Admission | None = None
        self._book = JobBook(clock=clock, wall=wall)
        self._standing = StandingWatch(parts.horde, lambda: parts.live.data.dreamer_name, wall=wall)
        self._warnings = WarningBook(wall)
        self._watchers = Watchers(self.snapshot)
        self._fresh: tuple[float, Snapshot] | None = None
        self._memory: dict[int, tuple[float, int]] = {}
        self._stage_listeners: list[StageListener] = []
        self._shown = ShownJobs(lambda: parts.live.data.dashboard_shows_jobs)
        self.versions = Versions(__version__, parts.agent, platform.python_version())
        parts.events.subscribe(self._book.note)
        parts.events.subscribe(self._note)
        parts.events.subscribe(parts.flat_pictures.note)
        parts.events.subscribe(self._shown.note)
        parts.events.subscribe_pictures(self._shown.note_picture)
        parts.events.subscribe_pops(self.stats.note_pop)
        parts.events.subscribe_pops(self._standing.note)
        self._advisor = Advisor(
            parts.live, parts.demand, work=self._work, size_of=parts.models.known_size, clock=clock, wall=wall
        )
        parts.events.subscribe_pops(self._advisor.note)
        self._book.on_end(self._advisor.ended)
        parts.steering.on_change(self._steered)
        pause = parts.steering.pause_state
        self._keeper = Keeper(parts.history, self._book, pause, wall=wall) if parts.history else None
        self._log = LogTail()

    @property
    def steering(self) -> Steering:
        """Pause, resume, finish, maintenance, settings."""
        return self._parts.steering

    @property
    def demand(self) -> Demand:
        """What is asked for at the Horde."""
        return self._parts.demand

    @property
    def in_flight(self) -> JobsInFlight:
        """The jobs under way."""
        return self._parts.in_flight

    @property
    def stats(self) -> SessionStats:
        """Counts of this session."""
        return self._book.session

    def serving(self, admission: Admission) -> None:
        """Jobs are asked for from now on, as `admission` decides."""
        self._admission = admission
        self._changed()

    async def restore(self) -> None:
        """Take over what an earlier run left. Before anything is popped: a pause may be on."""
        if self._keeper:
            await self._keeper.restore()

    async def run(self) -> None:
        """Follow what the Horde and the log say, and keep the history, until cancelled."""
        with self._log.listening():
            await asyncio.gather(
                self._standing.run(), self._parts.demand.run(), *([self._keeper.run()] if self._keeper else [])
            )

    # Read by whoever shows it

    def snapshot(self) -> Snapshot:
        """Everything at this moment, or a fraction of a second ago."""
        now = self._clock()
        if self._fresh is None or now - self._fresh[0] > FRESH_S:
            self._fresh = now, self._make(now)
        return self._fresh[1]

    def watch(self) -> AsyncIterator[Snapshot]:
        """The present snapshot, then one after each change, at most two a second; a slow reader misses some."""
        return self._watchers.watch()

    def on_stage(self, listener: StageListener) -> None:
        """Call `listener` at once whenever a job comes to a stage: for lines that must not be missed."""
        self._stage_listeners.append(listener)

    def on_end(self, listener: EndListener) -> None:
        """Call `listener` at once with each job that has ended."""
        self._book.on_end(listener)

    def history(
        self, *, offset: int = 0, limit: int = 100, wanted: Callable[[JobRecord], bool] = lambda _: True
    ) -> tuple[tuple[JobRecord, ...], int]:
        """Jobs of the last day that are wanted, the latest first, and how many there are of them in all."""
        found = [job for job in self._book.ended() if wanted(job)]
        return tuple(found[offset : offset + limit]), len(found)

    def hours(self, count: int = 24) -> tuple[HourOfWork, ...]:
        """What the last hours brought, the present one last."""
        return self._book.hours.last(count, self._wall())

    def log_tail(self, count: int = 100) -> tuple[LogLine, ...]:
        """The last lines of the log, the earliest first."""
        return self._log.last(count)

    def prompt(self, job_id: str) -> str | None:
        """The prompt of a job; None unless the owner wants to see prompts."""
        return self._shown.prompt(job_id)

    def picture(self, job_id: str) -> bytes | None:
        """The first picture of a job as WebP; None unless the owner wants to see pictures."""
        return self._shown.picture(job_id)

    def in_vain(self) -> tuple[float, str]:
        """Seconds in which an engine was idle and asked in vain since the last job, and a sentence on why."""
        return (self._admission.in_vain_s, self._admission.passed_over) if self._admission else (0.0, "")

    def phase(self) -> Phase:
        """What the worker as a whole does."""
        if self.steering.is_finishing:
            return Phase.FINISHING
        if self._admission is None:
            return Phase.STARTING
        return Phase.PAUSED if self.steering.pause_state.is_on else Phase.SERVING

    def _make(self, now: float) -> Snapshot:
        parts, admission = self._parts, self._admission
        jobs = parts.in_flight.jobs
        views = {job: self._book.view(job, left_s=parts.estimates.left_s(job)) for job in jobs}
        slots = tuple(self._slot(slot, views, now) for slot in parts.pool.slots)
        pauses = self._pauses(now)
        state = parts.models.state()
        models = self._models()
        standing = self._standing.current
        return Snapshot(
            at=self._wall(),
            name=visible(parts.live.data.dreamer_name),
            phase=self.phase(),
            started_at=self._started_at,
            versions=self.versions,
            session=self._session(now),
            slots=slots,
            jobs=tuple(views.values()),
            ended=tuple(islice(self._book.ended(), ENDED_SHOWN)),
            downloads=tuple(
                DownloadView(
                    visible(each.download.target.name), each.done, each.total or 0, state.bytes_per_s, state.left_s
                )
                for each in state.downloads
            ),
            models=models,
            choice=visible(self._choice.sentence) if self._choice else "",
            not_offered=dict(admission.not_offered) if admission else {},
            pauses=pauses,
            standing=standing,
            machine=self._machine(),
            skipped=dict(admission.skipped) if admission else {},
            passed_over=admission.passed_over if admission else "",
            in_vain_s=admission.in_vain_s if admission else 0.0,
            warnings=self._warnings.current(
                slots=slots,
                models=models,
                standing=standing,
                machine=self._machine(),
                flat=self._parts.flat_pictures.many,
                doubts=state.doubts,
            ),
            advice=self._advisor.advice(),
            predictions=self._advisor.predictions(),
        )

    def _session(self, now: float) -> Session:
        stats, uptime_s = self.stats, now - self._since
        return Session(
            total=stats.total,
            given_back=stats.given_back,
            faulted_images=stats.faulted_images,
            models=dict(stats.models),
            faults=dict(stats.faults),
            stages=StageTimes(**stats.stages),
            pops=dict(stats.pops),
            pop_s=stats.pop_s,
            uptime_s=uptime_s,
            idle_s=self._admission.all_in_vain_s if self._admission else 0.0,
            kudos_per_hour=stats.kudos * HOUR_S / uptime_s if uptime_s >= LEAST_S else None,
        )

    def _work(self) -> Work:
        """What advice rests on. An engine that works or stands ready counts."""
        state, admission = self._parts.models.state(), self._admission
        return Work(
            total=self.stats.total,
            uptime_s=self._clock() - self._since,
            idle_s=admission.all_in_vain_s if admission else 0.0,
            engines=sum(slot.state is SlotState.READY for slot in self._parts.pool.slots),
            models=frozenset(
                map(visible, (*state.ready, *state.waiting, *state.failed, *self._parts.models.fetchable()))
            ),
            not_offered=dict(admission.not_offered) if admission else {},
            most_pixels=self._most_pixels,
        )

    def _most_pixels(self, wanted: int) -> int:
        """How large a picture any model here may have on any device, at most `wanted`."""
        parts, most = self._parts, 0
        for name in parts.models.names()[:MODELS_LOOKED_AT]:
            for slot in parts.pool.slots:
                model = parts.models.model(name)
                limit = model and parts.estimates.size_limit(
                    model, slot.settings.device, max_pixels=wanted, start_s=0.0
                )
                if not limit:
                    return wanted
                most = max(most, limit.pixels)
        return most or wanted

    def _slot(self, slot: EngineSlot, views: dict[Job, JobView], now: float) -> SlotView:
        view = next(
            (view for job, view in views.items() if job.slot == slot.number and job.started_at and not job.rendered_at),
            None,
        )
        return SlotView(
            number=slot.number,
            device=slot.settings.device,
            state="working" if view else slot.state.value,
            models=tuple(map(visible, slot.models)),
            memory_bytes=self._memory_of(slot, now),
            failures=slot.restarts,
            reason=in_brief(slot.reason.message) if slot.reason else "",
            remedy=slot.reason.remedy if slot.reason else "",
            job=view,
        )

    def _memory_of(self, slot: EngineSlot, now: float) -> int:
        measured_at, held = self._memory.get(slot.number, (float("-inf"), 0))
        if now - measured_at > MEMORY_EVERY_S:
            held = slot.process.memory_bytes() if slot.process else 0
            self._memory[slot.number] = now, held
        return held

    def _machine(self) -> Machine:
        if self._admission is None:
            return Machine()
        limits = self._admission.machine
        return Machine(limits.memory_free, limits.disk_free, limits.disk)

    @property
    def _choice(self) -> ChoiceByDemand | None:
        return self._admission.choice if self._admission else None

    def _models(self) -> tuple[ModelView, ...]:
        state = self._parts.models.state()
        admission, choice = self._admission, self._choice
        chosen = choice.offered_because if choice else {}
        withheld = {
            **(choice.withheld_because if choice else {}),
            **(admission.not_offered if admission else {}),
            **(admission.withdrawn if admission else {}),
        }
        return (
            *(
                ModelView(visible(name), "withheld", visible(withheld[name]))
                if name in withheld
                else ModelView(visible(name), "served", visible(chosen.get(name, "")))
                for name in state.ready
            ),
            *(ModelView(visible(name), "waiting") for name in state.waiting),
            *(ModelView(visible(name), "failed", visible(reason)) for name, reason in state.failed.items()),
        )

    def _pauses(self, now: float) -> tuple[PauseView, ...]:
        admission = self._admission
        if admission is not None:
            reasons = admission.reasons
        else:  # engines start, and nothing is asked for yet: what the owner said holds all the same
            own = self.steering.pause_state.wait(now)
            reasons = () if own is None else (own,)
        offset = self._wall() - now
        return tuple(
            PauseView(
                kind=reason.kind.value,
                sentence=reason.sentence,
                until=None if reason.until is None else reason.until + offset,
                tries_again=reason.tries_again,
                remedy=reason.remedy,
                since=((admission.since(reason) if admission else None) or now) + offset,
            )
            for reason in reasons
        )

    def _note(self, event: JobEvent) -> None:
        for listener in self._stage_listeners:
            listener(self._book.view(event.job), event.stage.value)
        self._changed()

    def _steered(self) -> None:
        if self._keeper:
            self._keeper.steered()
        self._standing.look_soon()
        self._changed()

    def _changed(self) -> None:
        self._fresh = None
        self._watchers.changed()
