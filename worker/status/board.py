"""The status of the running worker, read from its parts when somebody looks."""

import asyncio
import platform
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
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
from worker.scheduling.pop_backoff import PopBackoff
from worker.status.advice.advisor import Advisor
from worker.status.advice.earnings import Facts
from worker.status.history_keeper import HistoryKeeper
from worker.status.job_book import JobBook
from worker.status.log_tail import LogTail
from worker.status.session import SessionStats
from worker.status.shown_jobs import ShownJobs
from worker.status.snapshot import (
    DownloadView,
    HourOfWork,
    JobRecord,
    JobView,
    Machine,
    ModelView,
    PauseView,
    Phase,
    Session,
    SlotView,
    Snapshot,
    Versions,
)
from worker.status.standing import StandingWatch
from worker.status.steering import Steering
from worker.status.warnings import WarningBook, findings
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


@dataclass(eq=False)
class StatusBoard:
    """One for each run of a worker. Called on the event loop."""

    live: LiveConfig
    horde: HordeClient
    #: what is asked for at the Horde
    demand: Demand
    pool: EnginePool
    models: ModelSource
    events: JobEvents
    #: the jobs under way
    in_flight: JobsInFlight
    estimates: Estimates
    pop_backoff: PopBackoff
    agent: str
    #: pause, resume, finish, maintenance, settings
    steering: Steering
    #: keeps the history over restarts; None: it ends with the run
    history_file: Path | None = None
    clock: Clock = monotonic
    wall: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._started_at, self._since = self.wall(), self.clock()
        self._admission: Admission | None = None
        self._standing = StandingWatch(self.horde, lambda: self.live.data.dreamer_name, wall=self.wall)
        self._warnings = WarningBook(self.wall)
        self._watchers = Watchers(self.snapshot)
        self._fresh: tuple[float, Snapshot] | None = None
        self._memory: dict[int, tuple[float, int]] = {}
        self._stage_listeners: list[StageListener] = []
        self._flat_pictures = FlatPictures()
        self._versions = Versions(__version__, self.agent, platform.python_version())
        #: the jobs of this session
        self.book = JobBook(clock=self.clock, wall=self.wall)
        #: prompts and pictures, for an owner who wants to see them
        self.shown = ShownJobs(lambda: self.live.data.dashboard_shows_jobs)
        #: the last lines of the log
        self.log = LogTail()
        self._advisor = Advisor(self.live, self.demand, facts=self._facts, clock=self.clock, wall=self.wall)
        for note in (self.book.note, self._note, self._flat_pictures.note, self.shown.note):
            self.events.subscribe(note)
        self.events.pictures.subscribe(self.shown.note_picture)
        for note_pop in (self.stats.note_pop, self._standing.note, self._advisor.note):
            self.events.pops.subscribe(note_pop)
        self.book.on_end(self._advisor.ended)
        self.steering.on_change(self._steered)
        pause = self.steering.pause_state
        self._keeper = HistoryKeeper(self.history_file, self.book, pause, wall=self.wall) if self.history_file else None

    @property
    def stats(self) -> SessionStats:
        return self.book.session

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
        with self.log.listening():
            await asyncio.gather(
                self._standing.run(), self.demand.run(), *([self._keeper.run()] if self._keeper else [])
            )

    # Read by whoever shows it

    def snapshot(self) -> Snapshot:
        """Everything at this moment, or a fraction of a second ago."""
        now = self.clock()
        if self._fresh is None or now - self._fresh[0] > FRESH_S:
            self._fresh = now, self._make(now)
        return self._fresh[1]

    def watch(self) -> AsyncIterator[Snapshot]:
        """The present snapshot, then one after each change, at most two a second; a slow reader misses some."""
        return self._watchers.watch()

    def on_stage(self, listener: StageListener) -> None:
        """Call `listener` at once whenever a job comes to a stage: for lines that must not be missed."""
        self._stage_listeners.append(listener)

    def history(
        self, *, offset: int = 0, limit: int = 100, wanted: Callable[[JobRecord], bool] = lambda _: True
    ) -> tuple[tuple[JobRecord, ...], int]:
        """Jobs of the last day that are wanted, the latest first, and how many there are of them in all."""
        found = [job for job in self.book.ended() if wanted(job)]
        return tuple(found[offset : offset + limit]), len(found)

    def hours(self, count: int = 24) -> tuple[HourOfWork, ...]:
        """What the last hours brought, the present one last."""
        return self.book.hours.last(count, self.wall())

    def in_vain(self) -> tuple[float, str]:
        """Seconds in which an engine was idle and asked in vain since the last job, and a sentence on why."""
        return self.pop_backoff.in_vain_s, self.pop_backoff.passed_over

    def phase(self) -> Phase:
        """What the worker as a whole does."""
        if self.steering.is_finishing:
            return Phase.FINISHING
        if self._admission is None:
            return Phase.STARTING
        return Phase.PAUSED if self.steering.pause_state.is_on else Phase.SERVING

    def _make(self, now: float) -> Snapshot:
        admission = self._admission
        jobs = self.in_flight.jobs
        views = {job: self.book.view(job, left_s=self.estimates.left_s(job)) for job in jobs}
        slots = tuple(self._slot(slot, views, now) for slot in self.pool.slots)
        state = self.models.state()
        models = self._models()
        standing = self._standing.current
        machine = self._machine()
        return Snapshot(
            at=self.wall(),
            name=visible(self.live.data.dreamer_name),
            phase=self.phase(),
            started_at=self._started_at,
            versions=self._versions,
            session=self._session(now),
            slots=slots,
            jobs=tuple(views.values()),
            ended=tuple(islice(self.book.ended(), ENDED_SHOWN)),
            downloads=tuple(
                DownloadView(
                    visible(each.download.target.name), each.done, each.total or 0, state.bytes_per_s, state.left_s
                )
                for each in state.downloads
            ),
            models=models,
            choice=visible(self._choice.sentence) if self._choice else "",
            not_offered=admission.not_offered if admission else {},
            pauses=self._pauses(now),
            standing=standing,
            machine=machine,
            skipped=dict(self.pop_backoff.skipped),
            passed_over=self.pop_backoff.passed_over,
            in_vain_s=self.pop_backoff.in_vain_s,
            warnings=self._warnings.current(
                slots, findings(models, standing, machine, self._flat_pictures.many, state.doubts)
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
            stages=stats.stages,
            pops=dict(stats.pops),
            pop_s=stats.pop_s,
            uptime_s=uptime_s,
            idle_s=self.pop_backoff.all_in_vain_s,
            kudos_per_hour=stats.total.kudos * HOUR_S / uptime_s if uptime_s >= LEAST_S else None,
        )

    def _facts(self) -> Facts:
        """What advice rests on. An engine that works or stands ready counts."""
        state, total, uptime_s = self.models.state(), self.stats.total, self.clock() - self._since
        return Facts(
            self.live.data,
            own_models=frozenset(map(visible, (*state.ready, *state.waiting, *state.failed, *self.models.fetchable()))),
            idle=min(1.0, self.pop_backoff.all_in_vain_s / uptime_s) if uptime_s > 0 else 0.0,
            engines=sum(slot.state is SlotState.READY for slot in self.pool.slots),
            job_s=total.render_s / total.jobs if total.jobs else None,
            job_kudos=total.kudos / total.jobs if total.jobs else None,
            size_of=self.models.known_size,
            most_pixels=self._most_pixels,
            not_offered=self._admission.not_offered if self._admission else {},
        )

    def _most_pixels(self, wanted: int) -> int:
        """How large a picture any model here may have on any device, at most `wanted`."""
        most = 0
        for name in self.models.names()[:MODELS_LOOKED_AT]:
            for slot in self.pool.slots:
                model = self.models.model(name)
                limit = model and self.estimates.size_limit(model, slot.settings.device, max_pixels=wanted, start_s=0.0)
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
        state = self.models.state()
        admission, choice = self._admission, self._choice
        chosen = choice.offered_because if choice else {}
        withheld = {
            **(choice.withheld_because if choice else {}),
            **(admission.not_offered if admission else {}),
            **(admission.planner.withdrawn if admission else {}),
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
        offset = self.wall() - now
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
            listener(self.book.view(event.job), event.stage.value)
        self._changed()

    def _steered(self) -> None:
        if self._keeper:
            self._keeper.steered()
        self._standing.look_soon()
        self._changed()

    def _changed(self) -> None:
        self._fresh = None
        self._watchers.changed()
