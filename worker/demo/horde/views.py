"""The embedded Horde's records as the API shows them. Pure; keys in the server's order."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from worker.demo.horde.records import Job, Outcome, QueuedRequest, User, WorkerRecord
from worker.demo.horde.rules import EMPTY_PAYLOAD, payload_of

VERSION = "5.1.5"
#: A worker not heard of for this long is offline.
ONLINE_S = 300.0

#: name of a stored source picture → presigned URL to get it
Signer = Callable[[str], str]


def empty_pop_view(skipped: Mapping[str, int], messages: list[dict[str, str]]) -> dict[str, Any]:
    """The answer to a pop without a job: 200, a payload of defaults, no ids."""
    return {
        "payload": dict(EMPTY_PAYLOAD),
        "id": None,
        "ids": [],
        "messages": messages,
        "ttl": None,
        "skipped": dict(skipped),
        "model": None,
        "source_image": None,
        "source_processing": "img2img",
        "source_mask": None,
        "extra_source_images": None,
        "r2_upload": None,
        "r2_uploads": None,
    }


def pop_view(
    jobs: list[Job], messages: list[dict[str, str]], *, uploads: list[str] | None, source: Signer
) -> dict[str, Any]:
    """The answer to a pop with a job: one payload for all ids. `uploads`: a URL per id, or None: to be sent inline."""
    first, request = jobs[0], jobs[0].request
    asked = request.asked
    extras = [{"image": source(name), "strength": strength} for name, strength in request.extra_source_images]
    return {
        "payload": payload_of(
            asked.prompt,
            request.params,
            seed=first.seed,
            images=len(jobs),
            censor=asked.censor_nsfw and not asked.nsfw,
        ),
        "id": first.id,
        "ids": [job.id for job in jobs],
        "messages": messages,
        "ttl": first.ttl_s,
        "skipped": {},
        "model": first.model,
        "source_image": source(request.source_image) if request.source_image else None,
        "source_processing": asked.source_processing,
        "source_mask": source(request.source_mask) if request.source_mask else None,
        "extra_source_images": extras or None,
        "r2_upload": uploads[0] if uploads else None,
        "r2_uploads": uploads,
    }


def check_view(request: QueuedRequest, *, position: int, wait_s: float, possible: bool) -> dict[str, Any]:
    """Progress of a request."""
    return {
        "finished": request.finished,
        "processing": request.processing,
        "restarted": request.restarted,
        "waiting": request.waiting,
        "done": request.done,
        "faulted": request.given_up,
        "wait_time": round(wait_s),
        "queue_position": position,
        "kudos": request.kudos,
        "is_possible": possible,
    }


def generations_view(request: QueuedRequest, picture: Callable[[Job], str]) -> list[dict[str, Any]]:
    """Every delivered image of a request."""
    return [
        {
            "img": picture(job),
            "seed": str(job.submitted_seed),
            "id": job.id,
            "censored": job.censored,
            "gen_metadata": job.gen_metadata,
            "worker_id": job.worker.id,
            "worker_name": job.worker.name,
            "model": job.model,
            "state": "ok",
        }
        for job in request.jobs
        if job.outcome is Outcome.OK
    ]


def worker_view(worker: WorkerRecord, *, now: float, owner_looks: bool) -> dict[str, Any]:
    """A worker's details; its owner sees more."""
    switches = worker.switches
    view: dict[str, Any] = {
        "requests_fulfilled": worker.fulfilled,
        "kudos_rewards": float(round(worker.kudos)),
        "kudos_details": {"generated": float(round(worker.kudos)), "uptime": None},
        "performance": f"{round(worker.speed, 1)} megapixelsteps per second",
        "threads": switches["threads"],
        "uptime": int(worker.last_seen - worker.created),
        "maintenance_mode": worker.maintenance,
        "nsfw": switches["nsfw"],
        "trusted": worker.owner.trusted,
        "flagged": worker.owner.flagged,
        "uncompleted_jobs": worker.uncompleted,
        "models": switches["models"],
        "team": {"name": None, "id": None},
        "bridge_agent": switches["bridge_agent"],
        "max_pixels": switches["max_pixels"],
        "megapixelsteps_generated": round(worker.megapixelsteps, 1),
        "img2img": switches["allow_img2img"],
        "painting": switches["allow_painting"],
        "post-processing": switches["allow_post_processing"],
        "lora": switches["allow_lora"],
        "controlnet": switches["allow_controlnet"],
        "sdxl_controlnet": switches["allow_sdxl_controlnet"],
        "type": "image",
        "name": worker.name,
        "id": worker.id,
        "online": now - worker.last_seen < ONLINE_S,
    }
    if worker.info is not None:
        view["info"] = worker.info
    if owner_looks:
        shown = [message for _, message in worker.messages]
        view |= {"owner": worker.owner.username, "paused": False, "suspicious": 0, "messages": shown}
    return view


def user_view(user: User) -> dict[str, Any]:
    """An account, as its owner sees it."""
    return {
        "username": user.username,
        "id": user.id,
        "kudos": round(user.kudos, 2),
        "concurrency": user.concurrency,
        "worker_invited": 1000,
        "moderator": user.moderator,
        "worker_count": len(user.worker_ids),
        "worker_ids": list(user.worker_ids),
        "trusted": user.trusted,
        "flagged": user.flagged,
        "vpn": False,
        "service": False,
        "education": False,
        "customizer": user.customizer,
        "special": user.special,
        "deleted": False,
        "pseudonymous": False,
        "account_age": 0,
    }


def models_view(queue: Iterable[QueuedRequest], online: Iterable[WorkerRecord]) -> list[dict[str, Any]]:
    """Every image model that is served or asked for: how many workers, how much waits."""
    counts: Counter[str] = Counter()
    speeds: dict[str, list[float]] = {}
    for worker in online:
        for model in worker.switches["models"]:
            counts[model] += worker.switches["threads"]
            speeds.setdefault(model, []).append(worker.speed * 1_000_000)
    queued: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for request in queue:
        for model in request.asked.models:
            queued[model] += round(request.megapixelsteps * request.waiting * 1_000_000)
            waiting[model] += request.waiting
    views = []
    for model in sorted(counts.keys() | waiting.keys()):
        served = speeds.get(model, [])
        speed = sum(served) / len(served) if served else 0.0
        views.append(
            {
                "performance": round(speed, 1),
                "queued": float(queued[model]),
                "jobs": float(waiting[model]),
                "eta": int(queued[model] / (speed * counts[model])) if served else 0,
                "type": "image",
                "name": model,
                "count": counts[model],
            }
        )
    return views
