"""One log line for each step of a job that matters to the owner: popped, finished, submitted."""

import asyncio
from typing import TYPE_CHECKING

from loguru import logger

from worker.console.status import SHORT_ID, image_size
from worker.status.snapshot import JobRecord, JobView, Outcome

if TYPE_CHECKING:
    from worker.status.board import StatusBoard


async def log_jobs(status: "StatusBoard") -> None:
    """A reader of the status. Faults are logged where they are handled."""
    status.on_stage(log_stage)
    status.book.on_end(log_end)
    await asyncio.Event().wait()


def log_stage(job: JobView, stage: str) -> None:
    match stage:
        case "popped":
            logger.bind(action="job_popped", job_id=job.id).info(
                "Job {}: popped, {}", job.id[:SHORT_ID], describe_job(job)
            )
        case "delivering":
            logger.bind(action="job_rendered", job_id=job.id).info(
                "Job {}: finished{}", job.id[:SHORT_ID], render_speed(job)
            )


def log_end(job: JobRecord) -> None:
    if job.outcome is Outcome.DONE:
        logger.bind(action="job_done", job_id=job.id, kudos=job.kudos).success(
            "Job {}: submitted, {:.1f} kudos, {:.1f} s since the pop ({}, {})",
            job.id[:SHORT_ID],
            job.kudos,
            job.seconds,
            job.model,
            image_size(job),
        )


def describe_job(job: JobView) -> str:
    """What is asked for, in one line."""
    what = f"{job.model}, {job.width or '?'}x{job.height or '?'}, {job.steps or '?'} steps {job.sampler}".rstrip()
    return ", ".join((what, *job.details, f"{job.deadline - job.popped_at:.0f} s to do it"))


def render_speed(job: JobView) -> str:
    """The time the engine took, and the sampling steps per second."""
    if job.begun_at is None or job.rendered_at is None:
        return ""
    seconds = job.rendered_at - job.begun_at
    text = f" in {seconds:.1f} s"
    if seconds > 0:
        text += f", {job.steps * job.images / seconds:.1f} steps/s"
    return text
