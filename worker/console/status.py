"""The status of a worker as lines of text. Pure."""

from collections.abc import Iterator

from worker.clock import duration
from worker.status.snapshot import AdviceView, JobRecord, JobView, PauseView, SlotView, Snapshot
from worker.units import GIB, counted
from worker.untrusted.text import visible

#: In ASCII, for logs of any encoding; it fits a narrow terminal, indented as further lines of a log record are.
RULE = "-" * 54
#: Characters of an id that stand for it in a line.
SHORT_ID = 8
#: Idle time below which a notice means nothing, and length of a session without any job that has nothing to tell, in
#: seconds.
LEAST_S = 60.0
#: Models named at most at the end of a session.
MOST_MODELS = 10
#: Advice named at most; the page and `status --json` have all of it.
MOST_ADVICE = 2


def status_lines(status: Snapshot) -> list[str]:
    session = status.session
    total, rate = session.total, session.kudos_per_hour
    text = [
        f"{status.name}: {duration(session.uptime_s)}, {counted(total.jobs, 'job')} done, {total.faulted} faulted; "
        f"{counted(total.images, 'image')} delivered, {session.faulted_images} faulted; {total.kudos:.0f} kudos"
        + (f", {rate:.0f} an hour" if rate is not None else "")
    ]
    text += [_slot_text(slot) for slot in status.slots]
    text.append(f"Jobs: {status.waiting} waiting, {status.delivering} being checked and submitted")
    text += [fact for fact in (models_text(status), account_text(status)) if fact]
    return [*text, *notices(status)]


def notices(status: Snapshot) -> Iterator[str]:
    """Why nothing comes, and what the owner should look at."""
    for pause in status.pauses:
        yield f"No new jobs: {pause_text(pause, now=status.at)}"
    if not status.pauses and status.in_vain_s >= LEAST_S:
        yield f"No job in {duration(status.in_vain_s)} of asking. {status.passed_over}".rstrip()
    paused = {pause.kind for pause in status.pauses}
    for warning in status.warnings:
        if warning.topic not in paused:
            yield f"{warning.sentence} {warning.remedy}".rstrip()
    yield from (advice_text(advice) for advice in status.advice[:MOST_ADVICE])


def advice_text(advice: AdviceView) -> str:
    """What might earn more: named as the estimate that it is."""
    more = counted(advice.jobs_per_hour, "job")
    if advice.kudos_per_hour is not None:
        more += f", {advice.kudos_per_hour:.0f} kudos"
    text = f"{advice.sentence} {advice.remedy} (up to {more} an hour more, by estimate"
    return f"{text}; {advice.disk_bytes / GIB:.1f} GiB of disk)" if advice.disk_bytes else f"{text})"


def pause_text(pause: PauseView, *, now: float) -> str:
    """Why no jobs are asked for, until when, and what helps."""
    span = ""
    if pause.until is not None and not pause.tries_again and pause.until - now >= LEAST_S:
        span = f"For {duration(pause.until - now)} more."
    return " ".join(filter(None, (pause.sentence, span, pause.remedy)))


def models_text(status: Snapshot) -> str:
    """How many models are served, and what is being fetched."""
    if not status.models:
        return ""
    served = sum(model.state == "served" for model in status.models)
    text = f"{served} of {len(status.models)} models are served"
    for file in status.downloads:
        share = f"{file.done_bytes / file.total_bytes:.0%} of " if file.total_bytes else ""
        text += f"; {file.name} {share}{max(file.total_bytes, file.done_bytes) / GIB:.1f} GiB"
    if status.downloads and (left_s := status.downloads[0].left_s) is not None:
        text += f", {duration(left_s)} left"
    return f"{text}. {status.choice}".rstrip()


def account_text(status: Snapshot) -> str:
    """The account and its kudos; empty while they are not known."""
    standing = status.standing
    if not standing.account or standing.account_kudos is None:
        return ""
    return f"Account {standing.account}: {standing.account_kudos:.0f} kudos"


def summary_lines(status: Snapshot) -> list[str]:
    """Jobs, kudos, the models they were of, and whose failures there were; empty if nothing happened."""
    session, total = status.session, status.session.total
    if not (total.jobs or total.faulted) and session.uptime_s < LEAST_S:
        return []
    rate = f", {session.kudos_per_hour:.0f} an hour" if session.kudos_per_hour is not None else ""
    done = (
        f"{counted(total.jobs, 'job')} done, {counted(total.images, 'image')} delivered, {total.kudos:.0f} kudos{rate}"
    )
    lines = [f"{status.name}, {duration(session.uptime_s)}: {done}"]
    ranked = sorted(session.models.items(), key=lambda item: -item[1].kudos)
    lines += [
        f"  {visible(name)}: {counted(tally.jobs, 'job')}, {tally.kudos:.0f} kudos,"
        f" {tally.render_s / tally.jobs:.1f} s a job"
        for name, tally in ranked[:MOST_MODELS]
        if tally.jobs
    ]
    if left := sum(1 for _, tally in ranked[MOST_MODELS:] if tally.jobs):
        lines.append(f"  and {counted(left, 'more model')}")
    if session.faults:
        by_blame = sorted(session.faults.items(), key=lambda item: -item[1])
        lines.append(
            f"Not done: {total.faulted}, by cause: {', '.join(f'{count} {blame}' for blame, count in by_blame)}"
        )
    if session.idle_s >= LEAST_S:
        lines.append(f"Idle, asking in vain: {duration(session.idle_s)}")
    return lines


def _slot_text(slot: SlotView) -> str:
    text = f"Engine {slot.number} ({slot.device}): {slot.state}"
    if slot.job is not None:
        share = f", {slot.job.step / slot.job.of_steps:.0%}" if slot.job.of_steps else ""
        text += f", job {slot.job.id[:SHORT_ID]} of {slot.job.model}, {image_size(slot.job)}{share}"
    elif slot.models:
        text += f", has {', '.join(slot.models[:2])}"
    if slot.memory_bytes >= GIB / 20:
        text += f", {slot.memory_bytes / GIB:.1f} GiB"
    if slot.failures:
        text += f", failed {counted(slot.failures, 'time')}"
    return text


def image_size(job: JobView | JobRecord) -> str:
    """Width, height and number of the images."""
    return f"{job.width}x{job.height}" + (f" x{job.images}" if job.images > 1 else "")
