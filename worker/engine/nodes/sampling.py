"""Samplers and schedulers that ComfyUI names in no list, and a node that tells any sampler more than its name.

`align_your_steps_sd1`, `align_your_steps_sdxl` and `gits` are schedules that ComfyUI has as nodes of their own; by name
every sampler node can take them. `horde_dpm_adaptive` is dpm_adaptive with an end: ComfyUI's own loops until its
tolerance is met, which may be never.
"""

import inspect
import json
import logging

import torch
from comfy import samplers
from comfy.k_diffusion import sampling
from comfy.patcher_extension import WrappersMP

logger = logging.getLogger(__name__)

#: The Horde's contract: this many iterations of the solver for each step that was asked for, rounded up.
ITERATIONS_PER_STEP = 5, 4
#: ComfyUI's default for the one parameter of GITS.
GITS_COEFFICIENT = 1.2
GITS_FEWEST_STEPS, GITS_MOST_STEPS = 2, 20


class _SpentError(Exception):
    """The solver has used up its iterations; carries the finished picture as it was last seen."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture


@torch.no_grad()
def sample_horde_dpm_adaptive(
    model, x, sigmas, extra_args=None, callback=None, disable=None, order=3, eta=0.0, s_noise=1.0
):
    """dpm_adaptive within 5/4 of the steps asked for; then the picture is what the model last saw in the noise."""
    steps = len(sigmas) - 1
    if steps < 1:
        return x
    numerator, denominator = ITERATIONS_PER_STEP
    most = -(-steps * numerator // denominator)

    def watched(info):
        if callback is not None:
            # Progress is told in steps, of which there may be fewer than iterations.
            callback({**info, "i": min(info["i"], steps - 1)})
        if info["i"] + 1 >= most:
            raise _SpentError(info["denoised"])

    lowest = sigmas[-1] if sigmas[-1] > 0 else sigmas[-2]
    try:
        return sampling.sample_dpm_adaptive(
            model, x, lowest, sigmas[0], extra_args=extra_args, callback=watched, disable=disable, order=order, eta=eta,
            s_noise=s_noise,
        )  # fmt: skip
    except _SpentError as end:
        return end.picture


def _align_your_steps(kind):
    from comfy_extras import nodes_align_your_steps as node

    def sigmas(_model_sampling, steps):
        levels = node.loglinear_interp(node.NOISE_LEVELS[kind], steps + 1)
        return _ending_at_zero(levels)

    return sigmas


def _gits(_model_sampling, steps):
    from comfy_extras import nodes_gits as node

    table = node.NOISE_LEVELS[GITS_COEFFICIENT]
    within = min(max(steps, GITS_FEWEST_STEPS), GITS_MOST_STEPS)
    levels = table[within - GITS_FEWEST_STEPS]
    return _ending_at_zero(levels if within == steps else node.loglinear_interp(levels, steps + 1))


def _ending_at_zero(levels):
    sigmas = torch.FloatTensor(list(levels))
    sigmas[-1] = 0
    return sigmas


class HordeSamplerOptions:
    """A model whose sampler is told more than its name, whichever node samples with it."""

    CATEGORY = "horde"
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "options": ("STRING", {"default": "{}"})}}

    def apply(self, model, options):
        """`options`: JSON, name of a sampler's parameter → its value. Unknown ones are left out."""
        wanted = json.loads(options)

        def sample(executor, *arguments, **keywords):
            sampler = executor.class_obj
            sampler.extra_options = {**sampler.extra_options, **_known_to(sampler.sampler_function, wanted)}
            return executor(*arguments, **keywords)

        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "horde_sampler_options", sample)
        return (patched,)


def _known_to(function, options):
    parameters = inspect.signature(inspect.unwrap(function)).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return options if takes_all else {name: options[name] for name in options if name in parameters}


def install():
    """Add our names to ComfyUI's lists; where this ComfyUI has none such, they are missing in /object_info too."""
    handlers = getattr(samplers, "SCHEDULER_HANDLERS", None)
    names = samplers.KSampler.SCHEDULERS
    if handlers is None or not isinstance(names, list):
        logger.warning("this ComfyUI has no list of schedulers: align_your_steps and gits are left out")
    else:
        ours = {
            "align_your_steps_sd1": _align_your_steps("SD1"),
            "align_your_steps_sdxl": _align_your_steps("SDXL"),
            "gits": _gits,
        }
        for name, sigmas in ours.items():
            if name not in handlers:
                handlers[name] = samplers.SchedulerHandler(sigmas)
                names.append(name)
    known = samplers.KSampler.SAMPLERS
    if isinstance(known, list) and "horde_dpm_adaptive" not in known:
        sampling.sample_horde_dpm_adaptive = sample_horde_dpm_adaptive
        known.append("horde_dpm_adaptive")
