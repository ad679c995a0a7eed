"""A Horde payload as a RenderRequest. Pure.

Nothing in a payload is an error, because the Horde's contract is to clamp: what makes no sense becomes the default,
what is out of range the nearest bound. The same payload always gives the same request.
"""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from worker.workflows import coerce, hires, post_processing, prompts, samplers
from worker.workflows.auxiliary_files import FACE_FIXERS, UPSCALERS, Listed, controlnet
from worker.workflows.families import TRAITS, AuxiliaryFile
from worker.workflows.prompt_syntax import MAX_PROMPT_CHARACTERS, harmless
from worker.workflows.qr import read_qr
from worker.workflows.request import (
    MAX_SEED,
    Embedding,
    EmbeddingTarget,
    EmbeddingWish,
    ExtraSource,
    ExtraText,
    GenMetadataNote,
    LoraFile,
    LoraWish,
    PostProcessorModel,
    RenderRequest,
    ServedModel,
    SourceImage,
)
from worker.workflows.types import QR_CODE, Mode

MAX_SIDE_PX, SIDE_STEP_PX = 8192, 64
MAX_STEPS = 500
DEFAULT_HIRES_DENOISE = 0.65
#: ComfyUI's nodes take 0 to 100; at 0 no noise would be left to remove.
MIN_FLOW_SHIFT, MAX_FLOW_SHIFT = 0.01, 100.0
#: ComfyUI's RepeatLatentBatch takes no more; the server sends at most 20 images in one job.
MAX_BATCH = 64
#: The server sends no more of each.
MAX_LORAS, MAX_EMBEDDINGS, MAX_EXTRA_SOURCES = 5, 20, 5
#: More than the extra texts of any workflow of the Horde.
MAX_EXTRA_TEXTS = 20
#: Characters of an unknown name that a message repeats.
MAX_NAME_CHARACTERS = 100
MAX_TRIGGER_WISH_CHARACTERS, MAX_ADDITION_NAME_CHARACTERS = 1000, 255

#: Values of `workflow` that mean none.
NO_WORKFLOW = frozenset({"", "auto_detect", "none"})
#: The payload's names of ControlNet types → the ones used here.
CONTROL_TYPES = {
    **{name: name for name in ("canny", "hed", "depth", "normal", "openpose", "seg", "scribble", "fakescribbles")},
    "hough": "mlsd",
    "mlsd": "mlsd",
}


def lora_wishes(payload: Mapping[str, Any]) -> tuple[LoraWish, ...]:
    """The LoRAs that a payload asks for, at most five; entries without a name are dropped, strengths clamped."""
    return tuple(
        LoraWish(
            name=name,
            model=coerce.number(entry.get("model"), 1.0, -10, 10),
            clip=coerce.number(entry.get("clip"), 1.0, -10, 10),
            inject_trigger=coerce.text(entry.get("inject_trigger"))[:MAX_TRIGGER_WISH_CHARACTERS] or None,
            is_version=coerce.flag(entry.get("is_version")),
        )
        for entry in coerce.entries(payload.get("loras"))
        if (name := coerce.text(entry.get("name")).strip()[:MAX_ADDITION_NAME_CHARACTERS])
    )[:MAX_LORAS]


def embedding_wishes(payload: Mapping[str, Any]) -> tuple[EmbeddingWish, ...]:
    """The textual inversions that a payload asks for, at most twenty; entries without a name are dropped."""
    targets = {target.value: target for target in EmbeddingTarget}
    return tuple(
        EmbeddingWish(
            name=name,
            strength=coerce.number(entry.get("strength"), 1.0, -10, 10),
            target=targets.get(coerce.text(entry.get("inject_ti")).lower()),
        )
        for entry in coerce.entries(payload.get("tis"))
        if (name := coerce.text(entry.get("name")).strip()[:MAX_ADDITION_NAME_CHARACTERS])
    )[:MAX_EMBEDDINGS]


def read_request(
    payload: Mapping[str, Any],
    *,
    model: ServedModel,
    images: int | None = None,
    source_processing: str = "txt2img",
    source: SourceImage | None = None,
    extra_sources: Sequence[ExtraSource] = (),
    loras: Sequence[LoraFile] = (),
    embeddings: Sequence[Embedding] = (),
    most_upscaled_px: float = float("inf"),
    listed: Listed = lambda file: file.name,
) -> RenderRequest:
    """The request of a pop's payload, whose names are in lower case. Never raises on a bad value.

    `images`: how many the Horde wants, one for each job id; without it the payload's n_iter, which may differ.
    Pictures, LoRAs and embeddings come resolved, those that could not be fetched left out. A source picture comes in
    any size, with its mask in its alpha channel. `most_upscaled_px`: the work that there is time for (see
    post_processing.fitting). `listed`: files beside the model, without it all under their usual names. The result's
    `notes` tell the requester what was done otherwise.
    """
    seed = _seed(payload)
    has_picture = source is not None and not source.stand_in
    control_type = _control_type(payload) if has_picture else None
    notes: list[GenMetadataNote] = []
    transparent = coerce.flag(payload.get("transparent"))
    if transparent and not TRAITS[model.family].layer_diffuse:
        transparent = False
        notes.append(_information(f"{model.family.value} has no transparent pictures"))
    mode = _mode(model, source_processing, source, control_type)
    if mode is Mode.TXT2IMG and not control_type:
        source = None
    if mode in {Mode.INPAINTING, Mode.OUTPAINTING} and not model.inpainting and source and not source.has_alpha:
        mode = Mode.IMG2IMG
        notes.append(_information("no mask, so the whole picture was painted over"))

    workflow = _workflow(payload)
    width, height = _side(payload, "width", model), _side(payload, "height", model)
    steps = coerce.whole(payload.get("ddim_steps"), 30, 1, MAX_STEPS)
    # Clients send a strength without a picture too, where there is nothing to keep.
    strength = payload.get("denoising_strength") if source and has_picture else None
    sampler = samplers.sampler_for(payload.get("sampler_name"))
    scheduler = samplers.scheduler_for(
        model.family, asked=payload.get("scheduler"), karras=coerce.flag(payload.get("karras"))
    )
    if instead := samplers.DIVERGING.get((sampler, scheduler)):
        notes.append(_information(f"scheduler {scheduler}->{instead} for {sampler}"))
        scheduler = instead
    flow_shift = _flow_shift(payload, model)
    if payload.get("flow_shift") is not None and flow_shift is None:
        notes.append(_information(f"flow_shift changes nothing for {model.family.value}"))
    asked = post_processing.asked(payload)
    known = post_processing.in_order(asked)
    notes.extend(
        _information(f"post-processor {name} is unknown here and was left out") for name in asked if name not in known
    )
    batch = coerce.whole(payload.get("n_iter") if images is None else images, 1, 1, MAX_BATCH)
    processors = post_processing.fitting(known, width, height, batch, most_work_px=most_upscaled_px)
    notes.extend(
        _information(f"post-processor {name} was left out, because the picture would be too large or too late")
        for name in known
        if name not in processors
    )
    extra_texts = _extra_texts(payload)
    network = controlnet(
        model, workflow if workflow == QR_CODE else control_type, lambda file: listed(file) is not None
    )
    asked_prompts = _prompts(payload, seed, loras, embeddings)
    prompt, negative_prompt = map(harmless, asked_prompts)
    if (prompt, negative_prompt) != asked_prompts:
        notes.append(_information("what the text encoder can't read in the prompt was changed or left out"))

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
        denoise=coerce.number(strength, 1.0, 0.01, 1.0),
        width=width,
        height=height,
        first_width=width,
        first_height=height,
        hires=False,
        hires_steps=steps,
        hires_denoise=DEFAULT_HIRES_DENOISE,
        batch=batch,
        clip_skip=coerce.whole(payload.get("clip_skip"), 1, 1, 20),
        tiling=coerce.flag(payload.get("tiling")),
        transparent=transparent,
        control_type=control_type,
        control_file=_named(network.file, listed) if network else None,
        control_union_type=network.union_type if network else None,
        control_strength=coerce.number(payload.get("control_strength"), 1.0, 0.01, 3),
        image_is_control=coerce.flag(payload.get("image_is_control")),
        return_control_map=control_type is not None and coerce.flag(payload.get("return_control_map")),
        post_processing=processors,
        face_fixers=tuple(
            PostProcessorModel(_named(FACE_FIXERS[name], listed)) for name in processors if name in FACE_FIXERS
        ),
        upscalers=tuple(
            PostProcessorModel(_named(UPSCALERS[name], listed)) for name in processors if name in UPSCALERS
        ),
        face_fixer_strength=coerce.number(payload.get("facefixer_strength"), 1.0, 0, 1),
        # A LoRA without any strength changes nothing but would still be loaded.
        loras=tuple(lora for lora in loras if lora.model or lora.clip),
        source=source,
        extra_sources=tuple(
            replace(extra, strength=coerce.number(extra.strength, 1.0, 0, 5))
            for extra in extra_sources[:MAX_EXTRA_SOURCES]
        ),
        extra_texts=extra_texts,
        qr=read_qr({each.reference: each.text for each in extra_texts}, prompt) if workflow == QR_CODE else None,
        sampler_options=samplers.options_for(sampler, payload),
        flow_shift=flow_shift,
        notes=tuple(notes),
    )
    return _with_hires(request, payload)


def _named(file: AuxiliaryFile, listed: Listed) -> str:
    """The file's name for ComfyUI; one that is not here has its usual one, for messages."""
    return listed(file) or file.name


def _seed(payload: Mapping[str, Any]) -> int:
    """The server sends a decimal string. Without one the seed follows from the payload, so that a retry repeats it."""
    try:
        return int(payload["seed"]) & MAX_SEED
    except (KeyError, TypeError, ValueError, OverflowError):
        return zlib.crc32(json.dumps(payload, default=str, sort_keys=True).encode())


def _side(payload: Mapping[str, Any], key: str, model: ServedModel, default: int = 512, most: int = MAX_SIDE_PX) -> int:
    least = TRAITS[model.family].min_side_px
    return coerce.multiple(payload.get(key), default, least, most, of=SIDE_STEP_PX)


def _flow_shift(payload: Mapping[str, Any], model: ServedModel) -> float | None:
    if not TRAITS[model.family].flow_shift or isinstance(payload.get("flow_shift"), bool):
        return None
    asked = coerce.number(payload.get("flow_shift"), math.nan, MIN_FLOW_SHIFT, MAX_FLOW_SHIFT)
    return None if math.isnan(asked) else asked


def _control_type(payload: Mapping[str, Any]) -> str | None:
    """An unknown type is kept as it is: no template here serves it, so that another worker gets the job."""
    asked = coerce.text(payload.get("control_type")).strip().lower()
    return None if asked in coerce.FALSE_WORDS else CONTROL_TYPES.get(asked, asked[:MAX_NAME_CHARACTERS])


def _information(text: str) -> GenMetadataNote:
    return GenMetadataNote("information", "see_ref", text)


def _workflow(payload: Mapping[str, Any]) -> str:
    workflow = coerce.text(payload.get("workflow")).strip().lower()
    return "" if workflow in NO_WORKFLOW else workflow[:MAX_NAME_CHARACTERS]


def _mode(model: ServedModel, processing: str, source: SourceImage | None, control_type: str | None) -> Mode:
    if model.inpainting:
        return Mode.INPAINTING
    # A picture that guides a ControlNet is not painted over.
    if source is None or control_type:
        return Mode.TXT2IMG
    try:
        mode = Mode(str(processing).strip().lower())
    except ValueError:
        return Mode.TXT2IMG
    # Where pictures can't be blended, the first one is painted over.
    return Mode.IMG2IMG if mode is Mode.REMIX and not TRAITS[model.family].blends_pictures else mode


def _prompts(
    payload: Mapping[str, Any], seed: int, loras: Sequence[LoraFile], embeddings: Sequence[Embedding]
) -> tuple[str, str]:
    # Two parts of the longest kind, and what parts them; each is cut to its length in the end.
    whole = coerce.text(payload.get("prompt"))[: 2 * MAX_PROMPT_CHARACTERS]
    positive, negative = prompts.split_prompt(whole)
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


def _extra_texts(payload: Mapping[str, Any]) -> tuple[ExtraText, ...]:
    return tuple(
        ExtraText(text=text, reference=coerce.text(entry.get("reference")).strip().lower()[:MAX_NAME_CHARACTERS])
        for entry in coerce.entries(payload.get("extra_texts"))[:MAX_EXTRA_TEXTS]
        if (text := coerce.text(entry.get("text"))[:MAX_PROMPT_CHARACTERS])
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
    # With a picture, also one that only guides, both passes denoise as the payload says.
    strength = payload.get("denoising_strength") if request.source else None
    default = coerce.number(strength, DEFAULT_HIRES_DENOISE, 0.01, 1.0)
    denoise = coerce.number(payload.get("hires_fix_denoising_strength") or None, default, 0.01, 1.0)
    first_width, first_height = hires.first_pass_size(family, width, height)
    steps = hires.second_pass_steps(family, width, height, request.steps, denoise)
    return replace(
        request,
        hires=True,
        hires_denoise=denoise,
        hires_steps=coerce.whole(payload.get("hires_fix_second_pass_steps"), steps, 1, MAX_STEPS),
        # A larger first pass would be more work than the Horde counts, and might not fit into memory.
        first_width=_side(payload, "hires_fix_first_pass_width", request.model, first_width, width),
        first_height=_side(payload, "hires_fix_first_pass_height", request.model, first_height, height),
    )
