"""LoRAs and textual inversions that change nothing, told as errors: ComfyUI logs what does not fit, and goes on.

A LoRA is tried on weights that have a shape and no values, each shape of a change once, which takes milliseconds. What
does not fit is taken out; what is no number, or nothing, is an error.
"""

import copy
import functools
import logging
import math
import threading
from pathlib import Path

import torch
from comfy import lora as comfy_lora
from comfy import sd as comfy_sd
from comfy import sd1_clip
from comfy import utils as comfy_utils

logger = logging.getLogger(__name__)

#: What PyTorch and ComfyUI say of a change that has another size than the weight.
MISFITS = ("is invalid for input of size", "NOT MERGED", "must match the size", "must be larger than the original")
#: A few LoRAs enlarge a weight, to twice its size; more would take any memory there is.
MOST_GROWTH = 4
#: In the order in which ComfyUI looks for them.
EMBEDDING_SUFFIXES = ("", ".safetensors", ".pt", ".bin")
#: Adapters whose change is a product, which is nothing where one factor is; and which of their weights is DoRA's scale,
#: with which it is none.
PRODUCTS = {"lora": 4, "loha": 7, "lokr": 8}


class LoraChangesNothing(ValueError):
    """No key of a LoRA matches a weight of the model, or none has its size. The worker knows this class by its name."""


class LoraUnusable(ValueError):
    """What a LoRA holds gives no change of any weight."""


class EmbeddingUnusable(ValueError):
    """Textual inversions whose file ComfyUI passes by, or whose values make no picture."""


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
    known = {}
    found = [each for pair in zip((model, clip), changed, strict=False) for each in _keep_what_fits(*pair, known)]
    fitting = [change for change, reason in found if not reason]
    reasons = [reason for _, reason in found if reason]
    if not found:
        raise LoraChangesNothing(f"none of its {len(lora)} keys matches a weight of the model")
    if not fitting:
        said = f"none of its {len(found)} changes can be made: {reasons[0]}"
        raise LoraChangesNothing(said) if any(each in said for each in MISFITS) else LoraUnusable(said)
    if not all(map(_is_finite, fitting)):
        raise LoraUnusable("it holds values that are no numbers")
    if all(map(_is_nothing, fitting)):
        raise LoraUnusable("its values are all zero")
    if reasons:
        logger.warning("%s of %s changes of a LoRA are left out: %s", len(reasons), len(found), reasons[0])
    return changed


def _keep_what_fits(before, after, known):
    """Each change that `after` has and `before` has not, with the reason why it is taken out again; "" for none.

    One that does not fit would be multiplied first, to whatever size its factors make. `known`: reasons by shapes.
    """
    old, owner = (getattr(each, "patcher", each) for each in (before, after))
    patches = getattr(owner, "patches", {})
    for key, all_of_key in list(patches.items()):
        first = len(getattr(old, "patches", {}).get(key, ()))
        kept = all_of_key[:first]
        for patch in all_of_key[first:]:
            weight = comfy_utils.get_attr(owner.model, key)
            shapes = (weight.shape, *(getattr(each, "shape", type(each)) for each in _values(patch[1])), str(patch[3]))
            if shapes not in known:
                known[shapes] = _why_not(patch, weight, key)
            if not known[shapes]:
                kept.append(patch)
            yield patch[1], known[shapes]
        patches[key] = kept
        if not kept:
            del patches[key]


def _why_not(patch, weight, key):
    """Why this change does not fit the weight; "" where it does, or where that can't be known."""
    _, change, _, *rest = patch
    bare = torch.empty(weight.shape, device="meta", dtype=torch.float32)
    with _Said() as said:
        try:
            made = comfy_lora.calculate_weight([(1.0, _without_scale(change), 1.0, *rest)], bare, key)
        except Exception as error:
            said.lines.append(f"{type(error).__name__}: {error}")
        else:
            if made.numel() > MOST_GROWTH * weight.numel():
                said.lines.append(f"it makes a weight of {tuple(made.shape)} of one of {tuple(weight.shape)}")
    reason = said.lines[0] if said.lines else ""
    # Some operations need values; what they would say is not known.
    return "" if "meta" in reason.lower() else reason


def _is_finite(change):
    return all(map(math.isfinite, map(_sum, _values(change))))


def _sum(value):
    """It is no number where one of the values is none, and reads them once."""
    if isinstance(value, torch.Tensor):
        # Of single bytes there is no sum everywhere.
        return float((value.float() if value.element_size() == 1 else value).sum(dtype=torch.float32))
    return value if isinstance(value, int | float) else 0.0


def _is_nothing(change):
    name, weights = getattr(change, "name", ""), getattr(change, "weights", ())
    scale = PRODUCTS.get(name)
    is_product = scale is not None and weights[scale] is None
    # Their scale, which LoKr does not always apply.
    if is_product and name != "lokr" and weights[2] == 0:
        return True
    zeros = [not each.float().any() for each in _values(change) if isinstance(each, torch.Tensor)]
    return bool(zeros) and (any(zeros) if is_product else all(zeros))


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

#: for each textual inversion of the text at hand: what is wrong with it, nothing once an encoder took it
_found = threading.local()


def _noted_embedding(load, name, *arguments, **options):
    vectors = load(name, *arguments, **options)
    folders, width = arguments[:2] if len(arguments) > 1 else ((), None)
    seen = getattr(_found, "names", None)
    if seen is None or not width:
        return vectors
    if vectors is None and _is_there(name, folders):
        seen[name] = (EmbeddingUnusable, "can't be read")
    elif isinstance(vectors, torch.Tensor) and vectors.ndim:
        if not torch.isfinite(vectors.float()).all():
            seen[name] = (EmbeddingUnusable, "holds values that are no numbers")
        elif vectors.shape[-1] == width:
            seen[name] = None
        else:
            seen.setdefault(
                name, (EmbeddingChangesNothing, f"has vectors of {vectors.shape[-1]} numbers: no encoder's")
            )
    return vectors


def _is_there(name, folders):
    """Whether a file of this name is in the folders themselves; of what lies elsewhere nobody is told."""
    if Path(name).name != name:
        return False
    folders = [folders] if isinstance(folders, str) else folders or ()
    try:
        return any(Path(each, name + end).is_file() for each in folders for end in EMBEDDING_SUFFIXES)
    except (OSError, ValueError):
        return False  # no file can have such a name


def _checked_text(tokenize, clip, text, *arguments, **options):
    _found.names = {}
    try:
        tokens = tokenize(clip, text, *arguments, **options)
        wrong = {name: found for name, found in _found.names.items() if found}
    finally:
        _found.names = None
    for kind in (EmbeddingUnusable, EmbeddingChangesNothing):
        if said := [f"embedding:{name} {what}" for name, (which, what) in sorted(wrong.items()) if which is kind]:
            raise kind(", ".join(said))
    return tokens
