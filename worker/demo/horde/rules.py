"""The embedded Horde's arithmetic: steps, time to live, batches, seeds, kudos. Pure; one function a rule.

All but the kudos are the live server's own formulas. Its reward comes from a neural network; `kudos_of` is a
plain formula of the same order of size.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.demo.horde.records import Baseline

#: What the server fills in where a request is silent.
PARAMS_DEFAULTS: Mapping[str, Any] = {
    "steps": 30,
    "n": 1,
    "sampler_name": "k_euler_a",
    "cfg_scale": 5.0,
    "width": 512,
    "height": 512,
    "karras": True,
    "tiling": False,
    "hires_fix": False,
    "transparent": False,
    "image_is_control": False,
    "return_control_map": False,
}

#: Samplers that evaluate the model twice a step.
_DOUBLE_SAMPLERS = frozenset({"k_heun", "k_dpm_2", "k_dpm_2_a", "k_dpmpp_2s_a", "k_dpmpp_sde"})
#: k_dpm_adaptive chooses its own number of steps; the server counts this many.
_ADAPTIVE_STEPS = 40

_TTL_LEAST_S = 150
_TTL_BASE_S = 30
_TTL_PER_STEP_S = 2
_TTL_UNIT_PIXELS = 512 * 512
_TTL_SLOW_BASELINES = frozenset({Baseline.FLUX, Baseline.QWEN, Baseline.Z_IMAGE})

UPSCALERS = frozenset({
    "RealESRGAN_x4plus", "RealESRGAN_x2plus", "RealESRGAN_x4plus_anime_6B", "NMKD_Siax", "4x_AnimeSharp",
    "4xNomos8kSC", "4xLSDIRplus", "4xNomosWebPhoto_RealPLKSR", "4xNomos2_realplksr_dysample", "4xNomos2_hq_dat2",
    "2xModernSpanimationV1",
})  # fmt: skip
#: Post-processors that shrink a batch further. Measured for RealESRGAN_x4plus; taken to hold for every 4x upscaler.
_HEAVY_PROCESSORS = UPSCALERS - {"RealESRGAN_x2plus", "2xModernSpanimationV1"}

#: The reward grows with the model's cost, by the model that was used.
_KUDOS_OF_BASELINE: Mapping[Baseline, float] = {
    Baseline.SDXL: 2,
    Baseline.CASCADE: 4,
    Baseline.FLUX: 8,
    Baseline.Z_IMAGE: 8,
    Baseline.QWEN: 12,
}
_KUDOS_BASE = 2.0
_KUDOS_PER_MEGAPIXELSTEP = 0.6
_KUDOS_PER_LORA = 3.0
_KUDOS_FOR_EMBEDDINGS = 1.0
_KUDOS_CONTROLNET_FACTOR = 2.0
_KUDOS_PER_PROCESSOR_FACTOR = 0.2

_SEED_LIMIT = 1 << 32


def counted_steps(params: Mapping[str, Any]) -> int:
    """Steps as the server counts them: by evaluations of the model."""
    steps, sampler = int(params["steps"]), str(params["sampler_name"])
    if sampler == "k_dpm_adaptive":
        return _ADAPTIVE_STEPS
    return steps * 2 if sampler in _DOUBLE_SAMPLERS else steps


def time_to_live(params: Mapping[str, Any], baselines: Iterable[Baseline], *, extra_slow: bool) -> int:
    """Seconds from the pop. Neither the batch nor post-processing, hires fix or LoRAs count."""
    pixels = int(params["width"]) * int(params["height"])
    ttl = float(_TTL_BASE_S) + counted_steps(params) * _TTL_PER_STEP_S * (pixels / _TTL_UNIT_PIXELS)
    if params.get("control_type"):
        ttl *= 2
    if _TTL_SLOW_BASELINES.intersection(baselines):
        ttl *= 3
    ttl = max(ttl, _TTL_LEAST_S)
    return int(ttl * 3 if extra_slow else ttl)


def safe_amount(params: Mapping[str, Any], *, asked: int, max_pixels: int, waiting: int, batching: bool = True) -> int:
    """How many images of one request a worker gets at once, from 1 to `asked` and to what is left."""
    if not batching or params.get("workflow") == "qr_code":
        return 1
    processors = params.get("post_processing") or ()
    work = int(params["width"]) * int(params["height"]) * (1 + 0.4 * len(processors))
    if params["transparent"] or _HEAVY_PROCESSORS.intersection(processors):
        work *= 1.8
    fitting = round((max_pixels / 3.5) * asked / work)
    return max(1, min(asked, waiting, fitting))


def seed_number(seed: str | None, rng: random.Random) -> int:
    """A number below 2^32 for what a requester gave: digits, any text, or nothing (then a random one)."""
    if not seed:
        return rng.randrange(_SEED_LIMIT)
    number = int(seed) if seed.isdecimal() else int.from_bytes(seed.encode(), "little")
    while number >= _SEED_LIMIT:
        number >>= 32
    return number


def kudos_of(params: Mapping[str, Any], *, baseline: Baseline | None) -> float:
    """Reward for one image. `baseline` None: before the factor of the model."""
    megapixelsteps = int(params["width"]) * int(params["height"]) * counted_steps(params) / 1_000_000
    kudos = _KUDOS_BASE + _KUDOS_PER_MEGAPIXELSTEP * megapixelsteps
    if params.get("control_type"):
        kudos *= _KUDOS_CONTROLNET_FACTOR
    kudos *= 1 + _KUDOS_PER_PROCESSOR_FACTOR * len(params.get("post_processing") or ())
    kudos += _KUDOS_PER_LORA * len(params.get("loras") or ())
    kudos += _KUDOS_FOR_EMBEDDINGS * bool(params.get("tis"))
    factor = _KUDOS_OF_BASELINE.get(baseline, 1) if baseline else 1
    return round(kudos * factor, 2)


def payload_of(prompt: str, params: Mapping[str, Any], *, seed: int, images: int, censor: bool) -> dict[str, Any]:
    """The pop's payload: the server's key order; what was not asked for is absent."""
    loras = [{"model": 1.0, "clip": 1.0, "is_version": False, **lora} for lora in params.get("loras") or ()]
    tis = [{"strength": 1.0, **ti} for ti in params.get("tis") or ()]
    payload = {
        "prompt": prompt,
        "ddim_steps": params["steps"],
        "n_iter": images,
        "use_nsfw_censor": censor or None,
        "seed": str(seed),
        "control_type": params.get("control_type"),
        "image_is_control": params["image_is_control"],
        "return_control_map": params["return_control_map"],
        "extra_texts": params.get("extra_texts"),
        "sampler_name": params["sampler_name"],
        "cfg_scale": float(params["cfg_scale"]),
        "denoising_strength": params.get("denoising_strength"),
        "hires_fix_denoising_strength": params.get("hires_fix_denoising_strength"),
        "height": params["height"],
        "width": params["width"],
        "post_processing": params.get("post_processing"),
        "karras": params["karras"],
        "tiling": params["tiling"],
        "hires_fix": params["hires_fix"],
        "clip_skip": params.get("clip_skip"),
        "facefixer_strength": params.get("facefixer_strength"),
        "loras": [_ordered(lora, ("name", "model", "clip", "inject_trigger", "is_version")) for lora in loras] or None,
        "tis": [_ordered(ti, ("name", "inject_ti", "strength")) for ti in tis] or None,
        "special": params.get("special"),
        "workflow": params.get("workflow"),
        "transparent": params["transparent"],
    }
    return {key: value for key, value in payload.items() if value is not None}


#: The payload of a pop that brought nothing: full of defaults, so a client must look at the ids instead.
EMPTY_PAYLOAD: Mapping[str, Any] = {
    "ddim_steps": 30,
    "n_iter": 1,
    "image_is_control": False,
    "return_control_map": False,
    "sampler_name": "k_euler_a",
    "cfg_scale": 7.5,
    "height": 512,
    "width": 512,
    "karras": False,
    "tiling": False,
    "hires_fix": False,
    "transparent": False,
}


def _ordered(entry: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The entry in the server's order, numbers as it writes them: always with a decimal point."""
    found = {key: entry[key] for key in keys if entry.get(key) is not None}
    return {key: float(value) if type(value) is int else value for key, value in found.items()}
