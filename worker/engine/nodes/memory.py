"""Measures the card memory that sampling takes beside the weights, so that the worker knows which sizes fit.

Sampling alone counts: ComfyUI moves weights out of its way, and decodes tile by tile where a picture is too large. So
the peak is taken from the moment the weights are there to the last step; seen over a whole job it would mostly be
weights that came and went. Only torch.cuda (CUDA and ROCm) tells peaks; elsewhere nothing is measured. Weights that a
newer ComfyUI pages in and out while it samples (dynamic VRAM) are not torch's, so the peak is still what comes beside
them.
"""

import functools
import logging

import torch
from comfy import model_management, samplers
from comfy_execution.utils import get_executing_context

logger = logging.getLogger(__name__)


def out_of_memory(error):
    """Whether the card has no room: ComfyUI's own answer where it has one, which clears the driver's error."""
    is_oom = getattr(model_management, "is_oom", None)
    if is_oom is not None:
        return is_oom(error)
    # Newer PyTorch raises AcceleratorError for some of them.
    told = isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    return told or isinstance(error, model_management.OOM_EXCEPTION)


class Meter:
    """Measures on the engine's card, once installed. Prompts run one after another, in one thread."""

    def __init__(self):
        #: None: nothing is measured
        self._device = None
        #: the last prompt that sampled, and its peak in bytes
        self._prompt_id, self._used = "", 0

    def install(self):
        """Start measuring where the card allows it: wrap the one function that all samplers run through."""
        device = model_management.get_torch_device()
        if device.type != "cuda":
            return
        sample = getattr(samplers.CFGGuider, "inner_sample", None)
        if sample is None:
            logger.warning("this ComfyUI samples in another way: what that takes of the card is not measured")
            return
        self._device = device
        samplers.CFGGuider.inner_sample = self._over(sample)

    def report(self, prompt_id):
        """Entries for the header of a picture's frame; none where this prompt sampled nothing."""
        if self._device is None or prompt_id != self._prompt_id:
            return {}
        total = self._ask(model_management.get_total_memory, self._device)
        return {} if total is None else {"memory": {"used": self._used, "total": total}}

    def _over(self, sample):
        """The function, with its memory measured."""

        @functools.wraps(sample)
        def measured(*arguments, **options):
            before = self._ask(self._begin)
            result = sample(*arguments, **options)
            self._ask(self._end, before)
            return result

        return measured

    def _begin(self):
        torch.cuda.reset_peak_memory_stats(self._device)
        return torch.cuda.memory_allocated(self._device)

    def _end(self, before):
        used = max(0, torch.cuda.max_memory_allocated(self._device) - before)
        prompt_id = get_executing_context().prompt_id
        # A hires fix samples twice; its larger pass is the one that must fit.
        self._used = max(used, self._used) if prompt_id == self._prompt_id else used
        self._prompt_id = prompt_id

    def _ask(self, question, *arguments):
        """The call's result; after a failure None, and measuring ends, because no job may fail over it."""
        if self._device is None:
            return None
        try:
            return question(*arguments)
        except Exception:
            logger.warning("what sampling takes of the card can't be measured", exc_info=True)
            self._device = None
            return None


meter = Meter()
