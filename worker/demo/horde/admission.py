"""From the body of POST /generate/async to an ImageRequest, or a refusal with the server's code. Pure."""

import base64
import binascii
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from worker.demo.horde.records import Baseline, ImageRequest, ModelFacts, Refused, User
from worker.demo.horde.rules import UPSCALERS
from worker.demo.horde.schema import ASYNC, require
from worker.untrusted.pictures import open_picture

_MOST_LORAS = 5
_MOST_EMBEDDINGS = 20
_MOST_EXTRA_IMAGES = 5
_INPAINTINGS = frozenset({"inpainting", "outpainting"})
_NO_CONTROLNET = frozenset({Baseline.SDXL, Baseline.FLUX, Baseline.CASCADE, Baseline.QWEN, Baseline.Z_IMAGE})
_TRANSPARENT = frozenset({Baseline.SD1, Baseline.SDXL})


class _Asked:
    """One body with what the rules ask of it."""

    def __init__(self, body: Mapping[str, Any], user: User, models: Mapping[str, ModelFacts]) -> None:
        self.body = body
        self.params: Mapping[str, Any] = body.get("params", {})
        self.user = user
        self.baselines = {models[name].baseline for name in body.get("models", ()) if name in models}
        self.source = body.get("source_image")
        self.processing = body.get("source_processing", "img2img")
        self.loras = self.params.get("loras", [])
        self.extra_images = body.get("extra_source_images", [])


Rule = tuple[Callable[[_Asked], Any], int, str, str]

#: (broken when, status, return code, message); the first broken one answers.
_RULES: tuple[Rule, ...] = (
    (
        lambda asked: round(asked.params.get("cfg_scale", 0), 2) != asked.params.get("cfg_scale", 0),
        400, "BadCFGDecimals", "cfg_scale takes at most two decimals",
    ),
    (
        lambda asked: asked.params.get("control_type") and asked.source is None and not asked.params.get("workflow"),
        400, "ControlNetSourceMissing", "ControlNet needs a source image.",
    ),
    (
        lambda asked: asked.params.get("control_type") and asked.processing in _INPAINTINGS,
        400, "ControlNetInpaintingMismatch", "ControlNet and inpainting exclude each other.",
    ),
    (
        lambda asked: asked.params.get("control_type") and asked.baselines & _NO_CONTROLNET,
        400, "ControlNetMismatch", "ControlNet does not exist for this family of models.",
    ),
    (
        lambda asked: asked.params.get("hires_fix") and Baseline.FLUX in asked.baselines,
        400, "HiResMismatch", "HiRes fix does not exist for Flux.",
    ),
    (
        lambda asked: "source_mask" in asked.body and asked.source is None,
        400, "SourceMaskUnnecessary", "A source_mask needs a source_image.",
    ),
    (
        lambda asked: len(asked.loras) > _MOST_LORAS,
        400, "TooManyLoras", f"At most {_MOST_LORAS} LoRAs.",
    ),
    (
        lambda asked: any(lora.get("is_version") and not lora["name"].isdecimal() for lora in asked.loras),
        400, "BadLoraVersion", "A LoRA's version is a number.",
    ),
    (
        lambda asked: len(asked.params.get("tis", ())) > _MOST_EMBEDDINGS,
        400, "TooManyTIs", f"At most {_MOST_EMBEDDINGS} textual inversions.",
    ),
    (
        lambda asked: len(UPSCALERS.intersection(asked.params.get("post_processing", ()))) > 1,
        400, "TooManyUpscalers", "At most one upscaler.",
    ),
    (
        lambda asked: asked.processing == "remix" and asked.baselines != {Baseline.CASCADE},
        400, "InvalidRemix", "Remix exists for Stable Cascade only.",
    ),
    # The dots at the end of these codes are the server's.
    (
        lambda asked: asked.extra_images and asked.processing != "remix",
        400, "InvalidExtraSourceImages.", "Extra source images are for a remix.",
    ),
    (
        lambda asked: len(asked.extra_images) > _MOST_EXTRA_IMAGES,
        400, "TooManyExtraSourceImages.", f"At most {_MOST_EXTRA_IMAGES} extra source images.",
    ),
    (
        lambda asked: len(asked.extra_images) > 1 and not asked.user.trusted,
        400, "MoreThanMinExtraSourceImage.", "More than one extra source image is for trusted users.",
    ),
    (
        lambda asked: asked.params.get("workflow") == "qr_code" and not asked.params.get("extra_texts"),
        400, "MissingExtraTexts.", "A QR code needs its text in extra_texts.",
    ),
    (
        lambda asked: asked.params.get("transparent") and not asked.baselines <= _TRANSPARENT,
        400, "InvalidTransparencyModel", "Transparency exists for Stable Diffusion 1.5 and XL only.",
    ),
    (
        lambda asked: asked.params.get("transparent") and asked.params.get("control_type"),
        400, "InvalidTransparencyCN", "Transparency and ControlNet exclude each other.",
    ),
    (
        lambda asked: asked.params.get("special") and not asked.user.special,
        400, "BadRequest", "The special field is for special users.",
    ),
    (
        lambda asked: not asked.body.get("webhook", "https").startswith("https"),
        400, "BadRequest", "A webhook needs an https address.",
    ),
    (
        lambda asked: asked.body.get("disable_batching") and not asked.user.trusted,
        400, "RequiresTrust", "Only trusted users can disable batching.",
    ),
)  # fmt: skip


def admit(body: Any, *, user: User, models: Mapping[str, ModelFacts], known_workers: Iterable[str]) -> ImageRequest:
    """The request in a body. Raises Refused with the server's status and return code."""
    body = require(ASYNC, body)
    asked = _Asked(body, user, models)
    for broken, status, code, message in _RULES:
        if broken(asked):
            raise Refused(status, code, message)
    for worker_id in body.get("workers", ()):
        if worker_id not in set(known_workers):
            raise Refused(404, "WorkerNotFound", f"Worker with ID '{worker_id}' not found.")
    source = _picture(asked.source) if asked.source is not None else None
    if asked.processing in _INPAINTINGS and "source_mask" not in body and not (source and _has_alpha(source)):
        raise Refused(400, "InpaintingMissingMask", "Inpainting needs a mask or an alpha channel.")
    return ImageRequest(
        prompt=body["prompt"],
        models=tuple(body.get("models", ())),
        params=asked.params,
        nsfw=body.get("nsfw", True),
        censor_nsfw=body.get("censor_nsfw", False),
        source_image=source,
        source_mask=_picture(body["source_mask"]) if "source_mask" in body else None,
        source_processing=asked.processing,
        extra_source_images=tuple(
            (_picture(extra["image"]), float(extra.get("strength", 1.0))) for extra in asked.extra_images
        ),
        r2=body.get("r2", True),
        trusted_workers=body.get("trusted_workers", False),
        slow_workers=body.get("slow_workers", True),
        extra_slow_workers=body.get("extra_slow_workers", False),
        disable_batching=body.get("disable_batching", False),
        workers=tuple(body.get("workers", ())),
        worker_blacklist=body.get("worker_blacklist", False),
    )


def stored_picture(data: bytes) -> bytes:
    """A requester's picture as workers get it: WebP of the same pixels. Raises ValueError when it is no picture."""
    out = io.BytesIO()
    open_picture(data).save(out, "WEBP", lossless=True, quality=0)
    return out.getvalue()


def inline_picture(text: str) -> bytes | None:
    """The picture in a base64 text; None for any other text."""
    try:
        data = base64.b64decode(text, validate=True)
        open_picture(data)
    except (binascii.Error, ValueError):
        return None
    return data


def _picture(text: str) -> bytes:
    """Addresses of pictures are refused like broken ones: this server fetches nothing."""
    data = inline_picture(text)
    if data is None:
        raise Refused(400, "ImageValidationFailed", "The source image is not base64 of a readable picture.")
    return data


def _has_alpha(data: bytes) -> bool:
    return open_picture(data).mode == "RGBA"
