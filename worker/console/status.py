"""The status of a worker as lines of text. Pure, except for `read_status`, which reads the running parts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from worker.app.context import RunningWorker
from worker.clock import duration
from worker.console.job_log import image_size
from worker.engine.slot import EngineSlot
from worker.jobs.job import Job, Stage
from worker.jobs.session_stats import SessionStats
from worker.units import GIB

RULE = "─" * 78
HOUR_S = 3600.0
#: Running or idle time below which a rate or a notice means nothing, in seconds.
LEAST_S = 60.0


@dataclass(frozen=True)
class EngineLine:
    """One engine slot."""

    number: int
    device: str
    state: str
    memory_bytes: int = 0
    restarts: int = 0
    #: its job, or the models in its memory
    doing: str = ""


@dataclass(frozen=True)
class Status:
    """A worker at one moment."""

    name: str
    uptime_s: float
    stats: SessionStats
    engines: Sequence[EngineLine] = ()
    #: jobs no engine has started, and jobs being checked, uploaded and submitted
    waiting: int = 0
    delivering: int = 0
    #: the reason for not popping; empty when popping
    pause: str = ""
    #: further lines: models and downloads, the account
    facts: Sequence[str] = ()
    #: seconds in which an engine was idle and pops brought nothing, since the last job
    idle_s: float = 0.0
    #: a sentence on requests that are not for this worker; may be empty
    passed_over: str = ""

    @property
    def kudos_per_hour(self) -> float | None:
        return self.stats.kudos * HOUR_S / self.uptime_s if self.uptime_s >= LEAST_S else None


def status_lines(status: Status) -> list[str]:
    """The status as text, one line each."""
    stats, rate = status.stats, status.kudos_per_hour
    text = [
        f"{status.name}: {duration(status.uptime_s)}, {stats.done} jobs done, {stats.faulted} faulted; "
        f"{stats.images} images delivered, {stats.faulted_images} faulted; {stats.kudos:.0f} kudos"
        + (f", {rate:.0f} an hour" if rate is not None else "")
    ]
    text += [_engine_text(engine) for engine in status.engines]
    text.append(f"Jobs: {status.waiting} waiting, {status.delivering} being checked and submitted")
    text += [fact for fact in status.facts if fact]
    if status.pause:
        text.append(f"No new jobs: {status.pause}")
    elif status.idle_s >= LEAST_S:
        text.append(f"No job in {duration(status.idle_s)} of asking. {status.passed_over}".rstrip())
    return text


def _engine_text(engine: EngineLine) -> str:
    text = f"Engine {engine.number} ({engine.device}): {engine.state}"
    if engine.doing:
        text += f", {engine.doing}"
    if engine.memory_bytes:
        text += f", {engine.memory_bytes / GIB:.1f} GiB"
    if engine.restarts:
        text += f", failed {engine.restarts} times"
    return text


def read_status(running: RunningWorker, *, since: float, facts: Sequence[str] = ()) -> Status:
    """The current status. `since` is a time of the event loop's clock."""
    now = asyncio.get_running_loop().time()
    jobs = running.in_flight.jobs
    return Status(
        name=running.live.data.dreamer_name,
        uptime_s=now - since,
        stats=running.stats,
        engines=[_engine_line(slot, jobs) for slot in running.pool.slots],
        waiting=sum(job.needs_engine and job.started_at is None for job in jobs),
        delivering=sum(job.stage is Stage.DELIVERING for job in jobs),
        pause=" ".join(reason.sentence for reason in running.admission.reasons),
        facts=facts,
        idle_s=running.admission.in_vain_s,
        passed_over=running.admission.passed_over,
    )


def _engine_line(slot: EngineSlot, jobs: Sequence[Job]) -> EngineLine:
    job = next((job for job in jobs if job.slot == slot.number and job.started_at and job.rendered_at is None), None)
    doing = ", ".join(slot.models[:2]) and f"has {', '.join(slot.models[:2])}"
    if job is not None:
        done, total = job.progress
        share = f", {done / total:.0%}" if total else ""
        doing = f"job {job.name} of {job.pop.model}, {image_size(job.request) if job.request else ''}{share}"
    return EngineLine(
        number=slot.number,
        device=slot.settings.device,
        state="working" if job else slot.state.value,
        memory_bytes=slot.process.memory_bytes() if slot.process else 0,
        restarts=slot.restarts,
        doing=doing,
    )
