"""What a job asks for, from a payload that has not been checked yet: bounded words and numbers for whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from worker.horde.messages import PopResponse
from worker.untrusted.text import visible
from worker.workflows import coerce

#: Characters shown of a name from outside, such as a model or sampler.
LONGEST_NAME: Final = 60
#: Largest number shown of what a payload claims.
LARGEST: Final = 10**6
#: Feature of a job without any.
PLAIN: Final = "plain"

#: Feature → whether a payload asks for it. A closed list: these are labels of metrics and keys of sums.
FEATURES: Final[dict[str, Callable[[dict[str, Any]], bool]]] = {
    "lora": lambda payload: bool(_list(payload.get("loras"))),
    "textual_inversion": lambda payload: bool(_list(payload.get("tis"))),
    "controlnet": lambda payload: bool(payload.get("control_type")),
    "hires_fix": lambda payload: bool(payload.get("hires_fix")),
    "post_processing": lambda payload: bool(_list(payload.get("post_processing"))),
    "workflow": lambda payload: bool(payload.get("workflow")),
}
#: Kinds of jobs, by source_processing.
KINDS: Final = ("txt2img", "img2img", "inpainting", "outpainting", "remix")


@dataclass(frozen=True)
class RequestSummary:
    """What a job asks for."""

    model: str
    kind: str
    features: tuple[str, ...]
    details: tuple[str, ...]
    width: int
    height: int
    steps: int
    images: int
    sampler: str


def summary_of(pop: PopResponse) -> RequestSummary:
    """Never raises, whatever the payload holds."""
    payload = pop.payload
    kind = "txt2img"
    if pop.source_image:
        kind = pop.source_processing if pop.source_processing in KINDS else "img2img"
    features = tuple(name for name, asks in FEATURES.items() if asks(payload))
    images = len(pop.job_ids)
    return RequestSummary(
        model=_text(pop.model),
        kind=kind,
        features=(*(() if kind == "txt2img" else (kind,)), *features, *(("batch",) if images > 1 else ())),
        details=_details(payload, kind, images),
        width=coerce.whole(payload.get("width"), 0, 0, LARGEST),
        height=coerce.whole(payload.get("height"), 0, 0, LARGEST),
        steps=coerce.whole(payload.get("ddim_steps"), 0, 0, LARGEST),
        images=images,
        sampler=_text(payload.get("sampler_name") or ""),
    )


def _details(payload: dict[str, Any], kind: str, images: int) -> tuple[str, ...]:
    return (
        *([f"{images} images"] if images > 1 else []),
        *([kind] if kind != "txt2img" else []),
        *([f"ControlNet {_text(payload.get('control_type'))}"] if payload.get("control_type") else []),
        *([f"{len(loras)} LoRA"] if (loras := _list(payload.get("loras"))) else []),
        *([f"{len(tis)} TI"] if (tis := _list(payload.get("tis"))) else []),
        *(["hires fix"] if payload.get("hires_fix") else []),
        *([f"then {', '.join(map(_text, after))}"] if (after := _list(payload.get("post_processing"))) else []),
        *([_text(payload.get("workflow"))] if payload.get("workflow") else []),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return visible(str(value), longest=LONGEST_NAME)
