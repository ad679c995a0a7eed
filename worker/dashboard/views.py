"""What the page says of a snapshot: sentences and figures for its templates. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from worker.config.editing import EDITABLE_KEYS
from worker.dashboard.words import at, number, plural, rough_span, size, span
from worker.status.snapshot import (
    AdviceView,
    HourOfWork,
    JobRecord,
    PauseView,
    Phase,
    Snapshot,
    StageTimes,
    Tally,
)

#: Idle time below which nothing is said about it, in seconds.
IDLE_SAID_S = 120.0
#: Stages in the order of a job's way, with what they are called.
STAGES = (
    ("fetch", "Fetching inputs"),
    ("wait", "Waiting for an engine"),
    ("render", "Rendering"),
    ("safety", "Safety check"),
    ("encode", "Encoding"),
    ("upload", "Upload"),
    ("submit", "Submit"),
)


@dataclass(frozen=True)
class Headline:
    """The first thing an owner reads."""

    #: good, waiting, paused, bad: chooses the mark beside it
    mood: str
    text: str
    detail: str


def headline(snapshot: Snapshot) -> Headline:
    """Does it work?"""
    working = sum(slot.job is not None for slot in snapshot.slots)
    match snapshot.phase:
        case Phase.STARTING:
            return Headline("waiting", "Starting", "ComfyUI takes a moment; jobs come when the first engine is ready.")
        case Phase.FINISHING:
            return Headline("paused", "Finishing", f"{plural(len(snapshot.jobs), 'job')} under way; then it ends.")
        case Phase.PAUSED:
            pause = next((each for each in snapshot.pauses if each.kind == "owner"), None)
            return Headline("paused", "Paused by you", _until(pause) if pause else "")
    blocking = [pause for pause in snapshot.pauses if pause.kind != "owner"]
    if blocking and not working:
        return Headline("bad", "No new jobs", blocking[0].sentence)
    if working:
        text = f"Working on {plural(working, 'job')}"
        return Headline("good", text, "" if len(snapshot.slots) == 1 else f"{working} of {len(snapshot.slots)} engines")
    if snapshot.in_vain_s >= IDLE_SAID_S:
        return Headline(
            "waiting",
            f"No job for {rough_span(snapshot.in_vain_s)}",
            snapshot.passed_over or "The Horde has none for it.",
        )
    return Headline("good", "Ready", "Waiting for the next job.")


def _until(pause: PauseView) -> str:
    return "Until you resume." if pause.until is None else f"Until {at(pause.until)}."


@dataclass(frozen=True)
class Figure:
    """One number at the top."""

    value: str
    unit: str
    label: str


def figures(snapshot: Snapshot, hours: Sequence[HourOfWork]) -> tuple[Figure, ...]:
    """What does it earn?"""
    day = sum((hour.total for hour in hours), Tally())
    session = snapshot.session
    share = session.idle_s / session.uptime_s if session.uptime_s else 0.0
    return (
        Figure(number(session.kudos_per_hour), "kudos/h", "since the start"),
        Figure(number(day.kudos), "kudos", "in 24 hours"),
        Figure(number(day.jobs), "jobs" if day.jobs != 1 else "job", "in 24 hours"),
        Figure(number(day.faulted), "faulted", f"of {number(day.jobs + day.faulted)}"),
        Figure(f"{share:.0%}", "idle", "since the start"),
    )


def queue_line(snapshot: Snapshot) -> str:
    """Jobs that no engine works on; empty for none."""
    parts = [
        *([f"{snapshot.waiting} waiting"] if snapshot.waiting else []),
        *([f"{snapshot.delivering} being checked and delivered"] if snapshot.delivering else []),
    ]
    return ", ".join(parts)


def attention(snapshot: Snapshot) -> tuple[tuple[str, str, str], ...]:
    """What the owner should look at: kind, sentence, remedy."""
    standing = snapshot.standing
    pauses = tuple(
        ("pause", f"{pause.sentence}{_next_try(pause)}", pause.remedy)
        for pause in snapshot.pauses
        if pause.kind != "owner"
    )
    # A pause because of the Horde says it better.
    is_said = standing.reachable or any(pause.kind == "horde" for pause in snapshot.pauses)
    horde = [] if is_said else [("horde", "The Horde does not answer.", "The worker tries by itself.")]
    if standing.paused:
        horde.append(("horde", "A moderator of the Horde has paused this worker.", "Ask on the Horde's Discord why."))
    warnings = tuple(("warning", each.sentence, each.remedy) for each in snapshot.warnings)
    said: dict[str, tuple[str, str, str]] = {}
    for each in (*pauses, *warnings, *horde):
        said.setdefault(each[1], each)
    return tuple(said.values())


def _next_try(pause: PauseView) -> str:
    if pause.until is None:
        return ""
    return f" Next try at {at(pause.until)}." if pause.tries_again else f" Until {at(pause.until)}."


def why_not_more(snapshot: Snapshot) -> dict[str, Any]:
    """Why nothing more comes: what the Horde passed over, what is not offered."""
    return {
        "advice": tuple((each, estimate(each), each.key in EDITABLE_KEYS) for each in snapshot.advice),
        "predictions": snapshot.predictions,
        "passed_over": snapshot.passed_over,
        "not_offered": tuple(snapshot.not_offered.items()),
        "in_vain": rough_span(snapshot.in_vain_s) if snapshot.in_vain_s >= IDLE_SAID_S else "",
    }


def estimate(advice: AdviceView) -> str:
    """What a change might bring and take, as a sentence that says so."""
    parts = [
        f"{plural(advice.jobs_per_hour, 'more job')} an hour",
        *([f"{number(advice.kudos_per_hour)} kudos"] if advice.kudos_per_hour is not None else []),
        *([f"{size(advice.disk_bytes)} of disk"] if advice.disk_bytes else []),
        *([f"{size(advice.memory_bytes)} of memory for its weights"] if advice.memory_bytes else []),
    ]
    return f"At most {', '.join(parts)}. {advice.basis or 'An estimate.'}"


def stage_shares(stages: StageTimes) -> tuple[tuple[str, str, float, float, float], ...]:
    """Each stage's key, name, seconds, and where its part of a bar of 100 begins and how wide it is."""
    seconds = [(key, name, float(getattr(stages, key))) for key, name in STAGES]
    total = sum(each for _, _, each in seconds) or 1.0
    parts, begin = [], 0.0
    for key, name, each in seconds:
        width = 100 * each / total
        parts.append((key, name, each, round(begin, 2), round(width, 2)))
        begin += width
    return tuple(parts)


def wanted(model: str, outcome: str, blame: str, feature: str = "") -> Callable[[JobRecord], bool]:
    """Whether a job is one of these; each may be empty for any."""
    return lambda job: (
        (not model or job.model == model)
        and (not outcome or job.outcome.value == outcome)
        and (not blame or job.blame == blame)
        and (not feature or feature in job.features)
    )


def outcome_word(job: JobRecord) -> str:
    if job.outcome.value == "done" and job.delivered < job.images:
        return f"{job.delivered} of {job.images} delivered"
    return job.outcome.value


def seconds_left(left_s: float | None) -> str:
    """How long a job still takes."""
    return "" if left_s is None else f"{span(max(0.0, left_s))} left"
