"""One log line for each step of a job that matters to the owner: popped, finished, submitted."""

from typing import Any

from loguru import logger

from worker.jobs.job import Job, JobEvent, Stage
from worker.workflows.request import RenderRequest

#: Characters shown of a name from outside, such as a model or sampler.
LONGEST_NAME = 60


def log_job_event(event: JobEvent) -> None:
    """A listener for job events. Faults are logged where they are handled."""
    job = event.job
    match event.stage:
        case Stage.POPPED:
            logger.bind(action="job_popped", job_id=job.id).info("Job {}: popped, {}", job.name, describe_request(job))
        case Stage.DELIVERING:
            logger.bind(action="job_rendered", job_id=job.id).info("Job {}: finished{}", job.name, render_speed(job))
        case Stage.DONE:
            logger.bind(action="job_done", job_id=job.id, kudos=job.kudos).success(
                "Job {}: submitted, {:.1f} kudos, {:.1f} s since the pop ({}, {})",
                job.name,
                job.kudos,
                (job.ended_at or job.popped_at) - job.popped_at,
                _text(job.pop.model),
                image_size(job.request) if job.request else "",
            )


def describe_request(job: Job) -> str:
    """The request in one line, from a payload that has not been checked yet."""
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


def render_speed(job: Job) -> str:
    """The time the engine took, and the sampling steps per second."""
    if job.started_at is None or job.rendered_at is None or job.request is None:
        return ""
    seconds = job.rendered_at - job.started_at
    text = f" in {seconds:.1f} s"
    if seconds > 0:
        text += f", {job.request.steps * job.request.batch / seconds:.1f} steps/s"
    return text


def image_size(request: RenderRequest) -> str:
    """Width, height and number of the images."""
    return f"{request.width}x{request.height}" + (f" x{request.batch}" if request.batch > 1 else "")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    line = "".join(letter for letter in str(value) if letter.isprintable())
    return line if len(line) <= LONGEST_NAME else f"{line[:LONGEST_NAME]}…"
