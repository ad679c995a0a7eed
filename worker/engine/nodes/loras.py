"""LoRAs and textual inversions that change nothing, told as errors: ComfyUI logs what does not fit, and goes on.

A LoRA is tried on weights that have a shape and no values, until one of its changes fits: for a good one that is a
fraction of a millisecond. What fits in part is used, and ComfyUI's own lines in the log say which part is not.
"""

import copy
import functools
import logging
import threading

import torch
from comfy import lora as comfy_lora
from comfy import sd as comfy_sd
from comfy import sd1_clip
from comfy import utils as comfy_utils

logger = logging.getLogger(__name__)

#: What PyTorch and ComfyUI say of a change that has another size than the weight.
MISFITS = ("is invalid for input of size", "NOT MERGED", "must match the size", "must be larger than the original")
#: Adapters whose change is a product, which is nothing where one factor is; and which of their weights is DoRA's scale,
#: with which it is none.
PRODUCTS = {"lora": 4, "loha": 7, "lokr": 8}


class LoraChangesNothing(ValueError):
    """No key of a LoRA matches a weight of the model, or none has its size. The worker knows this class by its name."""


class LoraUnusable(ValueError):
    """What a LoRA holds gives no change of any weight."""


class EmbeddingChangesNothing(ValueError):
    """Textual inversions fit no text encoder of the model. The worker knows this class by its name."""


class _Said(logging.Filter):
    """Keeps what this thread logs meanwhile, and keeps it out of the log."""

    def __init__(self):
        super().__init__()
        self.lines = []
        self._thread = threading.get_ident()

    def filter(self, record):
        if record.thread != self._thread:
            return True
        self.lines.append(record.getMessage())
        return False

    def __enter__(self):
        logging.getLogger().addFilter(self)
        return self

    def __exit__(self, *_):
        logging.getLogger().removeFilter(self)


def install():
    """Look at what ComfyUI makes of each LoRA and each textual inversion that it loads."""
    for place, name, checked in (
        (comfy_sd, "load_lora_for_models", _checked_lora),
        (sd1_clip, "load_embed", _noted_embedding),
        (comfy_sd.CLIP, "tokenize", _checked_text),
    ):
        if known := getattr(place, name, None):
            setattr(place, name, _around(known, checked))
        else:
            logger.warning("this ComfyUI has no %s: additions that change nothing are not told", name)


def _around(known, checked):
    """A function, and no partial: in a class it has to become a method."""

    @functools.wraps(known)
    def around(*arguments, **options):
        return checked(known, *arguments, **options)

    return around


def _checked_lora(load, model, clip, lora, *arguments, **options):
    changed = load(model, clip, lora, *arguments, **options)
    reason, added = "", 0
    for before, after in zip((model, clip), changed, strict=False):
        for key, patch in _added(before, after):
            added += 1
            reason = _why_not(patch, after, key)
            if not reason:
                return changed
    if not added:
        raise LoraChangesNothing(f"none of its {len(lora)} keys matches a weight of the model")
    said = f"none of its {added} changes can be made: {reason}"
    raise LoraChangesNothing(said) if any(each in reason for each in MISFITS) else LoraUnusable(said)


def _added(before, after):
    """Keys and patches that `after` has and `before` has not, of models and text encoders alike."""
    old, new = (getattr(getattr(each, "patcher", each), "patches", {}) for each in (before, after))
    for key, patches in new.items():
        for patch in patches[len(old.get(key, ())) :]:
            yield key, patch


def _why_not(patch, owner, key):
    """Why this patch changes nothing; "" where it changes the weight, or where that can't be known."""
    _, change, _, *rest = patch
    tensors = [each for each in _values(change) if isinstance(each, torch.Tensor)]
    if _is_nothing(change, tensors):
        return "its values are all zero"
    weight = comfy_utils.get_attr(getattr(owner, "patcher", owner).model, key)
    bare = torch.empty(weight.shape, device="meta", dtype=torch.float32)
    with _Said() as said:
        try:
            comfy_lora.calculate_weight([(1.0, _without_scale(change), 1.0, *rest)], bare, key)
        except Exception as error:
            said.lines.append(f"{type(error).__name__}: {error}")
    reason = said.lines[0] if said.lines else ""
    # Some operations need values; what they would say is not known.
    return "" if "meta" in reason.lower() else reason


def _is_nothing(change, tensors):
    scale = PRODUCTS.get(getattr(change, "name", ""))
    is_product = scale is not None and change.weights[scale] is None
    zeros = (not each.any() for each in tensors)
    return bool(tensors) and (any(zeros) if is_product else all(zeros))


def _values(change):
    """The parts of an adapter, or of a difference."""
    weights = getattr(change, "weights", change)
    for each in weights if isinstance(weights, list | tuple) else [weights]:
        if isinstance(each, list | tuple):
            yield from each
        else:
            yield each


def _without_scale(change):
    """The adapter with a scale of 0, which some adapters compare with values otherwise; it plays no part in sizes."""
    weights = getattr(change, "weights", None)
    if not isinstance(weights, list | tuple):
        return change
    bare = copy.copy(change)
    bare.weights = type(weights)(0.0 if isinstance(each, int | float) else each for each in weights)
    return bare


# Textual inversions

#: for each textual inversion of the text at hand: its width, and whether an encoder took it
_found = threading.local()


def _noted_embedding(load, name, *arguments, **options):
    vectors = load(name, *arguments, **options)
    width = arguments[1] if len(arguments) > 1 else None
    seen = getattr(_found, "names", None)
    if seen is not None and width and isinstance(vectors, torch.Tensor) and vectors.ndim:
        fits = vectors.shape[-1] == width
        seen[name] = (vectors.shape[-1], fits or seen.get(name, (0, False))[1])
    return vectors


def _checked_text(tokenize, clip, text, *arguments, **options):
    _found.names = {}
    try:
        tokens = tokenize(clip, text, *arguments, **options)
        unfit = {name: width for name, (width, fits) in _found.names.items() if not fits}
    finally:
        _found.names = None
    if unfit:
        said = ", ".join(f"embedding:{name} has vectors of {width} numbers" for name, width in sorted(unfit.items()))
        raise EmbeddingChangesNothing(f"{said} and fits no text encoder of the model")
    return tokens
