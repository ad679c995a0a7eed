"""A Horde payload as a RenderRequest: everything a graph needs, clamped, in ComfyUI's words. Pure.

Nothing in a payload is an error: what makes no sense becomes the default, what is out of range the nearest bound.
The same payload always gives the same request.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from worker.workflows import auxiliary_files as auxiliary
from worker.workflows import coerce, hires, prompts, samplers
from worker.workflows.families import TRAITS, Family
from worker.workflows.qr import WORKFLOW as QR_WORKFLOW
from worker.workflows.qr import QrCode, read_qr

__all__ = [
    "Embedding", "EmbeddingTarget", "EmbeddingWish", "ExtraSource", "ExtraText", "Family", "LoraFile", "LoraWish",
    "Mode", "Network", "Note", "RenderRequest", "ServedModel", "SourceImage",
    "embedding_wishes", "lora_wishes", "read_request",
]  # fmt: skip

MAX_SIDE_PX, SIDE_STEP_PX = 8192, 64
MAX_STEPS = 500
MAX_SEED = 2**64 - 1
DEFAULT_HIRES_DENOISE = 0.65
#: ComfyUI repeats what a picture becomes at most this many times; the server sends no more than 20 images at once.
MAX_BATCH = 64
#: The server sends no more of each.
MAX_LORAS, MAX_EMBEDDINGS, MAX_EXTRA_SOURCES = 5, 20, 5

#: Characters of an unknown name that are told on.
LONGEST_NAME = 100

#: Values of `workflow` that mean none.
NO_WORKFLOW = frozenset({"", "auto_detect", "none"})

FACE_FIXERS = frozenset(auxiliary.FACE_FIXERS)
STRIP_BACKGROUND = "strip_background"
UPSCALERS = frozenset(auxiliary.UPSCALERS)

#: The payload's names of ControlNet kinds, and their other names.
CONTROL_TYPES = {
    **{name: name for name in ("canny", "hed", "depth", "normal", "openpose", "seg", "scribble", "fakescribbles")},
    "hough": "mlsd",
    "mlsd": "mlsd",
}


class Mode(str, Enum):
    """What the picture is made from."""

    TXT2IMG = "txt2img"
    IMG2IMG = "img2img"
    INPAINTING = "inpainting"
    OUTPAINTING = "outpainting"
    REMIX = "remix"


@dataclass(frozen=True)
class ServedModel:
    """A model whose files are there.

    `files`: purpose → file name as ComfyUI lists it; purposes are checkpoint, or unet, text_encoder, text_encoder_2
    and vae, or stage_b and stage_c.
    """

    name: str
    family: Family
    files: Mapping[str, str]
    inpainting: bool = False

    @property
    def kind(self) -> str:
        """Its family, and whether it is one for inpainting, as a reason names it."""
        return f"{self.family.value} inpainting" if self.inpainting else self.family.value


@dataclass(frozen=True)
class LoraWish:
    """A LoRA as a payload names it, to be found by the models room."""

    name: str
    model: float = 1.0
    clip: float = 1.0
    inject_trigger: str | None = None
    is_version: bool = False


@dataclass(frozen=True)
class LoraFile:
    """A LoRA whose file is there, `file` as ComfyUI lists it.

    `trigger` is the requester's wish (any, all, or a text), `words` are the LoRA's own trigger words that can meet it.
    """

    file: str
    model: float = 1.0
    clip: float = 1.0
    trigger: str | None = None
    words: tuple[str, ...] = ()


class EmbeddingTarget(str, Enum):
    """The text an embedding is written into."""

    PROMPT = "prompt"
    NEGATIVE = "negprompt"


@dataclass(frozen=True)
class EmbeddingWish:
    """A textual inversion as a payload names it; without a target the requester's prompt mentions it already."""

    name: str
    strength: float = 1.0
    target: EmbeddingTarget | None = None


@dataclass(frozen=True)
class Embedding:
    """A textual inversion whose file is there: `file` without its ending, as `embedding:file` finds it."""

    file: str
    strength: float = 1.0
    target: EmbeddingTarget | None = None


@dataclass(frozen=True)
class SourceImage:
    """A requester's picture in the engine's memory; sizes in pixels."""

    key: str
    width: int
    height: int
    #: its transparency is the mask: where there is nothing, something is to be painted
    has_alpha: bool = False
    #: nothing but noise, where the model needs a picture and there is none
    stand_in: bool = False


@dataclass(frozen=True)
class ExtraSource:
    """A further picture of a remix, and how much it counts."""

    image: SourceImage
    strength: float = 1.0


@dataclass(frozen=True)
class ExtraText:
    text: str
    reference: str


@dataclass(frozen=True)
class Network:
    """A network that works on finished pictures, `file` as ComfyUI lists it."""

    file: str


@dataclass(frozen=True)
class Note:
    """Something the requester should know, in the words of the Horde's gen_metadata."""

    type: str
    value: str
    ref: str | None = None


@dataclass(frozen=True)
class RenderRequest:
    """One job as its graph needs it. Sizes in pixels, multiples of 64; strengths and denoise as fractions."""

    model: ServedModel
    mode: Mode
    workflow: str
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    denoise: float
    width: int
    height: int
    #: what the first pass of a hires fix renders at; width and height without one
    first_width: int
    first_height: int
    hires: bool
    hires_steps: int
    hires_denoise: float
    batch: int
    clip_skip: int
    tiling: bool
    transparent: bool
    control_type: str | None
    #: the ControlNet for it, or for the workflow, and the model, as ComfyUI lists it; None where there is none
    control_file: str | None
    control_strength: float
    image_is_control: bool
    return_control_map: bool
    #: face fixers, then upscalers, then strip_background
    post_processing: tuple[str, ...]
    #: the networks of these
    face_fixers: tuple[Network, ...]
    upscalers: tuple[Network, ...]
    face_fixer_strength: float
    loras: tuple[LoraFile, ...]
    source: SourceImage | None
    extra_sources: tuple[ExtraSource, ...]
    extra_texts: tuple[ExtraText, ...]
    #: the code of the QR-code workflow
    qr: QrCode | None = None
    notes: tuple[Note, ...] = ()

    @property
    def masked(self) -> bool:
        """Only a part of the source picture is to be painted over."""
        return self.source is not None and self.source.has_alpha


def lora_wishes(payload: Mapping[str, Any]) -> tuple[LoraWish, ...]:
    """The LoRAs a payload asks for; entries without a name are dropped, strengths clamped."""
    return tuple(
        LoraWish(
            name=name,
            model=coerce.number(entry.get("model"), 1.0, -10, 10),
            clip=coerce.number(entry.get("clip"), 1.0, -10, 10),
            inject_trigger=coerce.text(entry.get("inject_trigger")) or None,
            is_version=coerce.flag(entry.get("is_version")),
        )
        for entry in coerce.entries(payload.get("loras"))
        if (name := coerce.text(entry.get("name")).strip())
    )[:MAX_LORAS]


def embedding_wishes(payload: Mapping[str, Any]) -> tuple[EmbeddingWish, ...]:
    """The textual inversions a payload asks for; entries without a name are dropped, strengths clamped."""
    targets = {target.value: target for target in EmbeddingTarget}
    return tuple(
        EmbeddingWish(
            name=name,
            strength=coerce.number(entry.get("strength"), 1.0, -10, 10),
            target=targets.get(coerce.text(entry.get("inject_ti")).lower()),
        )
        for entry in coerce.entries(payload.get("tis"))
        if (name := coerce.text(entry.get("name")).strip())
    )[:MAX_EMBEDDINGS]


def read_request(
    payload: Mapping[str, Any],
    *,
    model: ServedModel,
    source_processing: str = "txt2img",
    source: SourceImage | None = None,
    extra_sources: Sequence[ExtraSource] = (),
    loras: Sequence[LoraFile] = (),
    embeddings: Sequence[Embedding] = (),
) -> RenderRequest:
    """The payload of a pop, its names in lower case, as a request. Never raises on a bad value.

    Pictures, LoRAs and embeddings come resolved: what could not be had is left out. A source picture comes in any
    size, with its mask in its alpha channel. `notes` of the result tell what the requester should know.
    """
    seed = _read_seed(payload)
    given = source is not None and not source.stand_in
    control_type = _read_control_type(payload) if given else None
    notes: list[Note] = []
    transparent = coerce.flag(payload.get("transparent"))
    if transparent and model.family not in auxiliary.LAYER_DIFFUSE:
        notes.append(Note("information", "see_ref", f"{model.family.value} has no transparent pictures"))
    mode = _mode_for(model, source_processing, source, control_type)
    if mode is Mode.TXT2IMG and not control_type:
        source = None
    if mode in {Mode.INPAINTING, Mode.OUTPAINTING} and not model.inpainting and source and not source.has_alpha:
        mode = Mode.IMG2IMG
        notes.append(_information("no mask, so the whole picture was painted over"))

    workflow = _read_workflow(payload)
    width, height = _read_side(payload, "width", model), _read_side(payload, "height", model)
    steps = coerce.whole(payload.get("ddim_steps"), 30, 1, MAX_STEPS)
    # Clients name a strength also without a picture; of nothing, nothing is to be kept.
    strength = payload.get("denoising_strength") if source and given else None
    denoise = coerce.number(strength, 1.0, 0.01, 1.0)
    sampler = samplers.sampler_for(payload.get("sampler_name"))
    scheduler = samplers.scheduler_for(
        model.family, asked=payload.get("scheduler"), karras=coerce.flag(payload.get("karras"))
    )
    if instead := samplers.DIVERGING.get((sampler, scheduler)):
        notes.append(_information(f"scheduler {scheduler}->{instead} for {sampler}"))
        scheduler = instead
    post_processing = _read_post_processing(payload)
    notes.extend(
        _information(f"post-processor {name[:LONGEST_NAME]} is unknown here and was left out")
        for name in _asked_post_processing(payload)
        if name not in post_processing
    )
    extra_texts = _read_extra_texts(payload)
    network = auxiliary.controlnet(model, workflow if workflow == QR_WORKFLOW else control_type)
    prompt, negative_prompt = _read_prompts(payload, seed, loras, embeddings)

    request = RenderRequest(
        model=model,
        mode=mode,
        workflow=workflow,
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        steps=steps,
        cfg=coerce.number(payload.get("cfg_scale"), 8.0, 1, 100),
        sampler=sampler,
        scheduler=scheduler,
        denoise=denoise,
        width=width,
        height=height,
        first_width=width,
        first_height=height,
        hires=False,
        hires_steps=steps,
        hires_denoise=DEFAULT_HIRES_DENOISE,
        batch=coerce.whole(payload.get("n_iter"), 1, 1, MAX_BATCH),
        clip_skip=coerce.whole(payload.get("clip_skip"), 1, 1, 20),
        tiling=coerce.flag(payload.get("tiling")),
        transparent=transparent and model.family in auxiliary.LAYER_DIFFUSE,
        control_type=control_type,
        control_file=network.name if network else None,
        control_strength=coerce.number(payload.get("control_strength"), 1.0, 0.01, 3),
        image_is_control=coerce.flag(payload.get("image_is_control")),
        return_control_map=control_type is not None and coerce.flag(payload.get("return_control_map")),
        post_processing=post_processing,
        face_fixers=_networks(auxiliary.FACE_FIXERS, post_processing),
        upscalers=_networks(auxiliary.UPSCALERS, post_processing),
        face_fixer_strength=coerce.number(payload.get("facefixer_strength"), 1.0, 0, 1),
        # A LoRA without any strength changes nothing but would still be loaded.
        loras=tuple(lora for lora in loras if lora.model or lora.clip),
        source=source,
        extra_sources=tuple(
            replace(extra, strength=coerce.number(extra.strength, 1.0, 0, 5))
            for extra in extra_sources[:MAX_EXTRA_SOURCES]
        ),
        extra_texts=extra_texts,
        qr=read_qr({each.reference: each.text for each in extra_texts}, prompt) if workflow == QR_WORKFLOW else None,
        notes=tuple(notes),
    )
    return _with_hires(request, payload)


def _read_seed(payload: Mapping[str, Any]) -> int:
    """The server sends a decimal string. A payload without one gets a seed of its own that a retry finds again."""
    try:
        return int(payload["seed"]) & MAX_SEED
    except (KeyError, TypeError, ValueError, OverflowError):
        return zlib.crc32(json.dumps(payload, default=str, sort_keys=True).encode())


def _read_side(
    payload: Mapping[str, Any], key: str, model: ServedModel, default: int = 512, most: int = MAX_SIDE_PX
) -> int:
    least = TRAITS[model.family].min_side_px
    return coerce.multiple(payload.get(key), default, least, most, of=SIDE_STEP_PX)


def _read_control_type(payload: Mapping[str, Any]) -> str | None:
    """One that is unknown here stays what it is: no template will serve it, and another worker may."""
    asked = coerce.text(payload.get("control_type")).strip().lower()
    return None if asked in coerce.FALSE_WORDS else CONTROL_TYPES.get(asked, asked[:LONGEST_NAME])


def _information(text: str) -> Note:
    return Note("information", "see_ref", text)


def _read_workflow(payload: Mapping[str, Any]) -> str:
    workflow = coerce.text(payload.get("workflow")).strip().lower()
    return "" if workflow in NO_WORKFLOW else workflow


def _mode_for(model: ServedModel, processing: str, source: SourceImage | None, control_type: str | None) -> Mode:
    if model.inpainting:
        return Mode.INPAINTING
    # A picture that guides a ControlNet is not painted over.
    if source is None or control_type:
        return Mode.TXT2IMG
    try:
        mode = Mode(str(processing).strip().lower())
    except ValueError:
        return Mode.TXT2IMG
    # Only Cascade can blend pictures; elsewhere the first one is painted over.
    return Mode.IMG2IMG if mode is Mode.REMIX and model.family is not Family.STABLE_CASCADE else mode


def _read_prompts(
    payload: Mapping[str, Any], seed: int, loras: Sequence[LoraFile], embeddings: Sequence[Embedding]
) -> tuple[str, str]:
    positive, negative = prompts.split_prompt(coerce.text(payload.get("prompt")))
    negative = negative or coerce.text(payload.get("negative_prompt"))
    positive = prompts.choose_wildcards(positive, seed)
    for embedding in embeddings:
        match embedding.target:
            case EmbeddingTarget.PROMPT:
                positive = prompts.prepend_embedding(positive, embedding.file, embedding.strength)
            case EmbeddingTarget.NEGATIVE:
                negative = prompts.append_embedding(negative, embedding.file, embedding.strength)
    for lora in loras:
        positive = prompts.prepend_trigger(positive, prompts.choose_trigger(lora.trigger, lora.words, seed))
    return positive, negative


def _read_post_processing(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Known names, each once: faces are mended at the size they were painted, the cut-out comes last."""
    names = _asked_post_processing(payload)
    groups = (FACE_FIXERS, UPSCALERS, {STRIP_BACKGROUND})
    return tuple(name for group in groups for name in names if name in group)


def _networks(files: Mapping[str, auxiliary.AuxiliaryFile], names: Sequence[str]) -> tuple[Network, ...]:
    return tuple(Network(files[name].name) for name in names if name in files)


def _asked_post_processing(payload: Mapping[str, Any]) -> list[str]:
    asked = payload.get("post_processing")
    return list(dict.fromkeys(map(coerce.text, asked))) if isinstance(asked, list | tuple) else []


def _read_extra_texts(payload: Mapping[str, Any]) -> tuple[ExtraText, ...]:
    return tuple(
        ExtraText(text=text, reference=coerce.text(entry.get("reference")).strip().lower())
        for entry in coerce.entries(payload.get("extra_texts"))
        if (text := coerce.text(entry.get("text")))
    )


def _with_hires(request: RenderRequest, payload: Mapping[str, Any]) -> RenderRequest:
    """The same request with its second pass, where one is asked for and makes sense."""
    family, width, height = request.model.family, request.width, request.height
    repaints = request.mode in {Mode.INPAINTING, Mode.OUTPAINTING}
    masked = request.mode is Mode.IMG2IMG and request.masked
    if not coerce.flag(payload.get("hires_fix")) or repaints or masked or request.return_control_map:
        return request
    if not hires.wants_second_pass(family, width, height):
        return request
    # A picture that only guides counts too: both passes denoise alike.
    default = request.denoise if request.source else DEFAULT_HIRES_DENOISE
    denoise = coerce.number(payload.get("hires_fix_denoising_strength") or None, default, 0.01, 1.0)
    first_width, first_height = hires.first_pass_size(family, width, height)
    steps = hires.second_pass_steps(family, width, height, request.steps, denoise)
    return replace(
        request,
        hires=True,
        hires_denoise=denoise,
        hires_steps=coerce.whole(payload.get("hires_fix_second_pass_steps"), steps, 1, MAX_STEPS),
        # Larger than the picture would be more work than the Horde knows of, and could be more than fits.
        first_width=_read_side(payload, "hires_fix_first_pass_width", request.model, first_width, width),
        first_height=_read_side(payload, "hires_fix_first_pass_height", request.model, first_height, height),
    )
