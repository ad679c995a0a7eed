"""The shapes of what the embedded Horde accepts, as data, and the small part of JSON Schema that they need.

Wording and paths of violations follow the live server's (`params.width`: `100 is not a multiple of 64`), because
that is what a requester or worker has to read there. Fields that are not named here are ignored, as there.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from worker.demo.horde.records import Refused

Schema = Mapping[str, Any]

SAMPLERS = (
    "k_heun", "k_dpmpp_2m", "k_dpm_adaptive", "k_dpm_2", "k_dpmpp_2s_a", "k_lms", "DDIM", "lcm",
    "k_euler", "k_euler_a", "k_dpm_2_a", "dpmsolver", "k_dpm_fast", "k_dpmpp_sde",
)  # fmt: skip
POST_PROCESSORS = (
    "GFPGAN", "RealESRGAN_x4plus", "RealESRGAN_x2plus", "RealESRGAN_x4plus_anime_6B", "NMKD_Siax", "4x_AnimeSharp",
    "CodeFormers", "strip_background", "4xNomos8kSC", "4xLSDIRplus", "4xNomosWebPhoto_RealPLKSR",
    "4xNomos2_realplksr_dysample", "4xNomos2_hq_dat2", "2xModernSpanimationV1", "GFPGANv1.3", "RestoreFormer",
)  # fmt: skip
CONTROL_TYPES = ("canny", "hed", "depth", "normal", "openpose", "seg", "scribble", "fakescribbles", "hough")
SOURCE_PROCESSINGS = ("img2img", "inpainting", "outpainting", "remix")
METADATA_TYPES = (
    "lora", "ti", "censorship", "source_image", "source_mask", "extra_source_images",
    "batch_index", "information", "aesthetic_score",
)  # fmt: skip
METADATA_VALUES = ("download_failed", "parse_failed", "baseline_mismatch", "csam", "nsfw", "see_ref")

_STRING: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_INTEGER: Schema = {"type": "integer"}
_SIDE: Schema = {"type": "integer", "minimum": 64, "maximum": 3072, "multipleOf": 64}
_STRENGTH: Schema = {"type": "number", "minimum": -5.0, "maximum": 5.0}
_DENOISING: Schema = {"type": "number", "minimum": 0.01, "maximum": 1.0}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255}


def _enum(values: tuple[str, ...]) -> Schema:
    return {"type": "string", "enum": values}


def _array(items: Schema, **rules: Any) -> Schema:
    return {"type": "array", "items": items, **rules}


def _object(properties: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


POP = _object({
    "name": _STRING,
    "priority_usernames": _array(_STRING),
    "nsfw": _BOOLEAN,
    "models": _array({"type": "string", "minLength": 3, "maxLength": 255}),
    "bridge_agent": {"type": "string", "maxLength": 1000},
    "threads": {"type": "integer", "minimum": 1, "maximum": 50},
    "require_upfront_kudos": _BOOLEAN,
    "amount": {"type": "integer", "minimum": 1, "maximum": 20},
    "extra_slow_worker": _BOOLEAN,
    "max_pixels": _INTEGER,
    "blacklist": _array(_STRING),
    "allow_img2img": _BOOLEAN,
    "allow_painting": _BOOLEAN,
    "allow_unsafe_ipaddr": _BOOLEAN,
    "allow_post_processing": _BOOLEAN,
    "allow_controlnet": _BOOLEAN,
    "allow_sdxl_controlnet": _BOOLEAN,
    "allow_lora": _BOOLEAN,
    "limit_max_steps": _BOOLEAN,
})  # fmt: skip

#: What the server takes a left-out pop field for. These differ from the defaults that its documentation names.
POP_DEFAULTS: Mapping[str, Any] = {
    "priority_usernames": [],
    "nsfw": True,
    "models": [],
    "bridge_agent": "unknown:0:unknown",
    "threads": 1,
    "require_upfront_kudos": False,
    "amount": 1,
    "extra_slow_worker": False,
    "max_pixels": 262_144,
    "blacklist": [],
    "allow_img2img": True,
    "allow_painting": True,
    "allow_unsafe_ipaddr": True,
    "allow_post_processing": True,
    "allow_controlnet": False,
    "allow_sdxl_controlnet": False,
    "allow_lora": False,
    "limit_max_steps": False,
}

_METADATA = _object(
    {"type": _enum(METADATA_TYPES), "value": _enum(METADATA_VALUES), "ref": {"type": "string", "maxLength": 255}},
    required=("type", "value"),
)
SUBMIT = _object(
    {
        "id": _STRING,
        "generation": _STRING,
        "state": _enum(("ok", "censored", "faulted", "csam")),
        "seed": _INTEGER,
        "censored": _BOOLEAN,
        "gen_metadata": _array(_METADATA),
    },
    required=("seed", "id"),
)

PARAMS = _object({
    "sampler_name": _enum(SAMPLERS),
    "cfg_scale": {"type": "number", "minimum": 0, "maximum": 100},
    "denoising_strength": _DENOISING,
    "hires_fix_denoising_strength": _DENOISING,
    "height": _SIDE,
    "width": _SIDE,
    "post_processing": _array(_enum(POST_PROCESSORS), uniqueItems=True),
    "karras": _BOOLEAN,
    "tiling": _BOOLEAN,
    "hires_fix": _BOOLEAN,
    "clip_skip": {"type": "integer", "minimum": 1, "maximum": 12},
    "facefixer_strength": {"type": "number", "minimum": 0, "maximum": 1.0},
    "loras": _array(_object({
        "name": _NAME, "model": _STRENGTH, "clip": _STRENGTH,
        "inject_trigger": {"type": "string", "minLength": 1, "maxLength": 30}, "is_version": _BOOLEAN,
    }, required=("name",))),
    "tis": _array(_object({
        "name": _NAME, "inject_ti": _enum(("prompt", "negprompt")), "strength": _STRENGTH,
    }, required=("name",))),
    "special": _object({}),
    "workflow": _enum(("qr_code",)),
    "transparent": _BOOLEAN,
    "seed": _STRING,
    "seed_variation": {"type": "integer", "minimum": 1, "maximum": 1000},
    "control_type": _enum(CONTROL_TYPES),
    "image_is_control": _BOOLEAN,
    "return_control_map": _BOOLEAN,
    "extra_texts": _array(_object({
        "text": {"type": "string", "minLength": 1}, "reference": {"type": "string", "minLength": 3},
    })),
    "steps": {"type": "integer", "minimum": 1, "maximum": 500},
    "n": {"type": "integer", "minimum": 1, "maximum": 20},
})  # fmt: skip

ASYNC = _object({
    "prompt": {"type": "string", "minLength": 1},
    "params": PARAMS,
    "nsfw": _BOOLEAN,
    "trusted_workers": _BOOLEAN,
    "slow_workers": _BOOLEAN,
    "extra_slow_workers": _BOOLEAN,
    "censor_nsfw": _BOOLEAN,
    "workers": _array(_STRING),
    "worker_blacklist": _BOOLEAN,
    "models": _array(_STRING),
    "source_image": _STRING,
    "source_processing": _enum(SOURCE_PROCESSINGS),
    "source_mask": _STRING,
    "extra_source_images": _array(_object({
        "image": {"type": "string", "minLength": 1}, "strength": {"type": "number"},
    })),
    "r2": _BOOLEAN,
    "dry_run": _BOOLEAN,
    "disable_batching": _BOOLEAN,
    "webhook": {"type": "string", "minLength": 10, "maxLength": 1024},
}, required=("prompt",))  # fmt: skip

MODIFY_WORKER = _object({
    "maintenance": _BOOLEAN,
    "maintenance_msg": _STRING,
    "paused": _BOOLEAN,
    "info": {"type": "string", "maxLength": 1000},
    "name": {"type": "string", "minLength": 5, "maxLength": 100},
})  # fmt: skip


def require(schema: Schema, body: Any) -> dict[str, Any]:
    """`body` when it fits; raises Refused (400 with every violation by its path) when not."""
    errors = dict(violations(schema, body, ""))
    if errors:
        raise Refused(400, "", "Input payload validation failed", errors=errors)
    return dict(body)


def violations(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    """(dotted path, what is wrong) for every rule that `value` breaks."""
    kind = schema["type"]
    if not _TYPES[kind](value):
        yield path, f"{value!r} is not of type {kind!r}"
        return
    for rule, limit in schema.items():
        check = _RULES.get(rule)
        if check and (wrong := check(value, limit)):
            yield path, wrong
    match kind:
        case "object":
            yield from _members(schema, value, path)
        case "array":
            for index, item in enumerate(value):
                yield from violations(schema["items"], item, _join(path, str(index)))


def _members(schema: Schema, value: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name in schema["required"]:
        if name not in value:
            yield _join(path, name), f"{name!r} is a required property"
    for name, rules in schema["properties"].items():
        if name in value:
            yield from violations(rules, value[name], _join(path, name))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "number": _is_number,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}

_RULES: Mapping[str, Callable[[Any, Any], str | None]] = {
    "enum": lambda value, known: None if value in known else f"{value!r} is not one of {list(known)!r}",
    "minimum": lambda value, low: f"{value!r} is less than the minimum of {low!r}" if value < low else None,
    "maximum": lambda value, high: f"{value!r} is greater than the maximum of {high!r}" if value > high else None,
    "multipleOf": lambda value, unit: f"{value!r} is not a multiple of {unit!r}" if value % unit else None,
    "minLength": lambda value, low: f"{value!r} {_too_short(low)}" if len(value) < low else None,
    "maxLength": lambda value, high: f"{value!r} is too long" if len(value) > high else None,
    "uniqueItems": lambda value, _: (
        f"{value!r} has non-unique elements" if len({repr(item) for item in value}) < len(value) else None
    ),
}


def _too_short(low: int) -> str:
    return "should be non-empty" if low == 1 else "is too short"
