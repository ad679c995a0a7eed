"""A line in the log for each step of a job that its owner cares about: popped, finished, submitted."""

from typing import Any

from loguru import logger

from worker.jobs.job import Job, JobEvent, Stage
from worker.workflows.request import RenderRequest

#: Characters of a model's or sampler's name that are shown; they come from outside.
LONGEST_NAME = 60


def say(event: JobEvent) -> None:
    """A listener for the job events. Faults are told where they are dealt with."""
    job = event.job
    match event.stage:
        case Stage.POPPED:
            logger.bind(action="job_popped", job_id=job.id).info("Job {}: popped, {}", job.name, asked(job))
        case Stage.DELIVERING:
            logger.bind(action="job_rendered", job_id=job.id).info("Job {}: finished{}", job.name, pace(job))
        case Stage.DONE:
            logger.bind(action="job_done", job_id=job.id, kudos=job.kudos).success(
                "Job {}: submitted, {:.1f} kudos, {:.1f} s since the pop ({}, {})",
                job.name,
                job.kudos,
                (job.ended_at or job.popped_at) - job.popped_at,
                _text(job.pop.model),
                size(job.request) if job.request else "",
            )


def asked(job: Job) -> str:
    """What the Horde wants, from a payload that nothing is known of yet."""
    payload, count = job.pop.payload, len(job.pop.job_ids)
    extras = [
        *([f"{count} images"] if count > 1 else []),
        *([job.pop.source_processing] if job.pop.source_image else []),
        *([f"ControlNet {_text(payload.get('control_type'))}"] if payload.get("control_type") else []),
        *([f"{len(loras)} LoRA"] if (loras := _list(payload.get("loras"))) else []),
        *([f"{len(tis)} TI"] if (tis := _list(payload.get("tis"))) else []),
        *(["hires fix"] if payload.get("hires_fix") else []),
        *([f"then {', '.join(map(_text, after))}"] if (after := _list(payload.get("post_processing"))) else []),
        *([_text(payload.get("workflow"))] if payload.get("workflow") else []),
    ]
    width, height, steps = (_text(payload.get(key, "?")) for key in ("width", "height", "ddim_steps"))
    what = f"{_text(job.pop.model)}, {width}x{height}, {steps} steps {_text(payload.get('sampler_name', ''))}".rstrip()
    return ", ".join((what, *extras, f"{job.pop.ttl:.0f} s to live"))


def pace(job: Job) -> str:
    """How long the engine took, and how many steps a second that is."""
    if job.started_at is None or job.rendered_at is None or job.request is None:
        return ""
    seconds = job.rendered_at - job.started_at
    text = f" in {seconds:.1f} s"
    if seconds > 0:
        text += f", {job.request.steps * job.request.batch / seconds:.1f} steps/s"
    return text


def size(request: RenderRequest) -> str:
    """Width, height and number of the pictures."""
    return f"{request.width}x{request.height}" + (f" x{request.batch}" if request.batch > 1 else "")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    line = "".join(letter for letter in str(value) if letter.isprintable())
    return line if len(line) <= LONGEST_NAME else f"{line[:LONGEST_NAME]}…"
