"""LoRAs that change nothing, told as an error: ComfyUI logs each key that matches no weight, and goes on without.

The usual cause is a LoRA for another family than its name says.
"""

import functools
import logging

from comfy import lora as comfy_lora

logger = logging.getLogger(__name__)


class LoraChangesNothing(ValueError):
    """No key of a LoRA matches a weight of the model. The worker knows this class by its name."""


def install():
    """Look at what ComfyUI made of each LoRA that it loads."""
    load = getattr(comfy_lora, "load_lora", None)
    if load is None:
        logger.warning("this ComfyUI loads LoRAs in another way: those that change nothing are not told")
        return

    @functools.wraps(load)
    def checked(lora, *arguments, **options):
        patches = load(lora, *arguments, **options)
        if not patches:
            raise LoraChangesNothing(f"none of its {len(lora)} keys matches a weight of the model")
        return patches

    comfy_lora.load_lora = checked
