"""What a session came to, in a few lines, for its end. Pure."""

from worker.clock import duration
from worker.status.snapshot import Snapshot
from worker.units import counted
from worker.untrusted.text import visible

#: Models named at most.
MOST_MODELS = 10
#: A session shorter than this without any job has nothing to tell, in seconds.
LEAST_S = 60.0


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
