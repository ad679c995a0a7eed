"""Which request a worker is offered, and why others are skipped. Pure.

`offered` decides; `skip_counts` is the statistic over the whole queue that an empty pop carries. The two differ in
places (some reasons are never counted, requests exactly at the pixel limit always are), as on the live server.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from worker.demo.horde.records import Baseline, ImageRequest, ModelFacts, QueuedRequest, WorkerRecord

OFFICIAL_AGENT = "AI Horde Worker reGen"
#: The newest feature level of the official worker; others of that name are paid less.
LATEST_LEVEL = 13
#: Slowest speed, in megapixelsteps per second, that requests without `slow_workers` accept.
SLOW_SPEED = 0.5
#: Most requests with these are only for workers that know them; by the level that brought them.
_PROCESSORS_OF_LATEST = frozenset({
    "4xNomos8kSC", "4xLSDIRplus", "4xNomosWebPhoto_RealPLKSR", "4xNomos2_realplksr_dysample", "4xNomos2_hq_dat2",
    "2xModernSpanimationV1", "GFPGANv1.3", "RestoreFormer",
})  # fmt: skip
_LEVEL_FLUX = 9
_LEVEL_CASCADE_HIRES = 6
#: Nothing is offered below this level: the first one knows no sampler.
_LEVEL_LEAST = 2
#: Reasons that the statistic always names, counted or not.
COUNTED = (
    "unsafe_ip", "img2img", "painting", "post-processing", "lora", "controlnet",
    "worker_id", "performance", "nsfw", "untrusted", "models", "bridge_version",
)  # fmt: skip

_VERSION = re.compile(r"(\d+)(?:\.\d+){0,2}$")


def agent_level(bridge_agent: str) -> int | None:
    """The feature level in an official worker's agent; None for any other name, or one that can't be read."""
    name, _, rest = bridge_agent.partition(":")
    version = _VERSION.match(rest.partition(":")[0])
    return int(version[1]) if name == OFFICIAL_AGENT and version else None


def reward_factor(bridge_agent: str) -> float:
    """The part of a reward that a worker of this name is credited."""
    match agent_level(bridge_agent):
        case None:
            return 0.75
        case level if level >= LATEST_LEVEL:
            return 1.0
        case _:
            return 0.9


def needed_level(asked: ImageRequest, params: Mapping[str, Any]) -> int | None:
    """The least official level that may serve a request; None where any worker may."""
    level_of = {
        3: params["sampler_name"] == "lcm" or any(lora.get("is_version") for lora in params.get("loras") or ()),
        5: bool(asked.extra_source_images),
        7: bool(params.get("workflow") or params.get("extra_texts")),
        8: params["transparent"],
        LATEST_LEVEL: bool(_PROCESSORS_OF_LATEST.intersection(params.get("post_processing") or ())),
    }
    level = max((level for level, needed in level_of.items() if needed), default=_LEVEL_LEAST)
    extras = ("clip_skip", "loras", "tis", "hires_fix", "tiling", "post_processing", "control_type")
    plain = not asked.r2 and asked.source_image is None and not any(params.get(extra) for extra in extras)
    return None if plain and level == _LEVEL_LEAST else level


def offered(
    request: QueuedRequest, worker: WorkerRecord, pop: Mapping[str, Any], models: Mapping[str, ModelFacts]
) -> bool:
    """May this worker have it? `pop` is the pop at hand; its models count, all other switches are the stored ones."""
    switches = worker.switches
    return (
        not _reasons(request, worker, pop["models"], models)
        and not _late_reasons(request, switches, models)
        and request.pixels <= switches["max_pixels"]
        and _inpainting_fits(request, pop["models"], models)
        and chosen_model(request, pop["models"]) is not None
        and (switches["allow_post_processing"] or not request.params.get("post_processing"))
        and (switches["allow_sdxl_controlnet"] or not _needs_sdxl_controlnet(request, pop["models"], models))
    )


def chosen_model(request: QueuedRequest, served: Iterable[str]) -> str | None:
    """The model to use: the worker's first that the request names, or its first where the request names none."""
    named = request.asked.models
    return next((model for model in served if not named or model in named), None)


def skip_counts(
    queue: Iterable[QueuedRequest], worker: WorkerRecord, pop: Mapping[str, Any], models: Mapping[str, ModelFacts]
) -> dict[str, int]:
    """Reason → how many waiting requests it keeps from this worker; reasons overlap."""
    counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    for request in queue:
        reasons = _reasons(request, worker, pop["models"], models) or _late_reasons(request, worker.switches, models)
        if request.pixels >= worker.switches["max_pixels"]:
            reasons.add("max_pixels")
        counts.update(reasons)
    return dict(counts)


def _reasons(
    request: QueuedRequest, worker: WorkerRecord, served: list[str], models: Mapping[str, ModelFacts]
) -> set[str]:
    """What the statistic counts for every request of the queue."""
    asked, params, switches = request.asked, request.params, worker.switches
    painting = asked.source_processing in {"inpainting", "outpainting"}
    pictured = asked.source_image is not None
    too_slow = not asked.slow_workers and worker.speed < SLOW_SPEED
    holds = {
        "worker_id": bool(asked.workers) and (worker.id in asked.workers) == asked.worker_blacklist,
        "performance": too_slow or (switches["extra_slow_worker"] and not asked.extra_slow_workers),
        "nsfw": asked.nsfw and not switches["nsfw"],
        "untrusted": asked.trusted_workers and not worker.owner.trusted,
        "models": bool(asked.models) and not set(asked.models).intersection(served),
        "bridge_version": not _agent_fits(request, switches["bridge_agent"], served, models),
        "img2img": pictured and not painting and not switches["allow_img2img"],
        "painting": pictured and painting and not switches["allow_painting"],
        "lora": bool(params.get("loras")) and not switches["allow_lora"],
        "controlnet": bool(params.get("control_type")) and not switches["allow_controlnet"],
    }
    return {reason for reason, held in holds.items() if held}


def _late_reasons(request: QueuedRequest, switches: Mapping[str, Any], models: Mapping[str, ModelFacts]) -> set[str]:
    """What is found only when a request would otherwise be given away."""
    prompt, user = request.asked.prompt.lower(), request.user
    holds = {
        "blacklist": any(word.lower() in prompt for word in switches["blacklist"]),
        "kudos": switches["require_upfront_kudos"] and not user.trusted and user.kudos < request.kudos,
        "step_count": switches["limit_max_steps"] and request.steps > _most_steps(request, models),
    }
    return {reason for reason, held in holds.items() if held}


def _most_steps(request: QueuedRequest, models: Mapping[str, ModelFacts]) -> float:
    facts = [models[name] for name in request.asked.models if name in models] or [ModelFacts(Baseline.SD1)]
    return min((fact.min_steps + fact.max_steps) / 2 for fact in facts)


def _agent_fits(
    request: QueuedRequest, bridge_agent: str, served: Iterable[str], models: Mapping[str, ModelFacts]
) -> bool:
    """The version gate. It looks at every model of the worker's list, not only at the one of the job."""
    level = agent_level(bridge_agent) or 0
    baselines = {models[name].baseline for name in served if name in models}
    if Baseline.FLUX in baselines and level < _LEVEL_FLUX:
        return False
    if Baseline.CASCADE in baselines and request.params["hires_fix"] and level < _LEVEL_CASCADE_HIRES:
        return False
    return request.bridge_level is None or level >= request.bridge_level


def _inpainting_fits(request: QueuedRequest, served: Iterable[str], models: Mapping[str, ModelFacts]) -> bool:
    """Inpainting needs any inpainting model on the worker, everything else any other; not necessarily the job's."""
    inpaints = request.asked.source_processing == "inpainting" and request.asked.source_image is not None
    return any(models.get(name, ModelFacts(Baseline.SD1)).inpainting == inpaints for name in served)


def _needs_sdxl_controlnet(request: QueuedRequest, served: Iterable[str], models: Mapping[str, ModelFacts]) -> bool:
    serves_sdxl = any(name in models and models[name].baseline is Baseline.SDXL for name in served)
    return bool(request.params["transparent"]) or (request.params.get("workflow") == "qr_code" and serves_sdxl)
