"""What keys demand of each other. Nothing here fails: a value gives way, and a sentence says so.

A default that gives way is not worth a warning; what the owner wrote is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.config.offer import DEFAULT_MODELS, PUBLIC_HORDE, is_public_horde
from worker.config.schema import BridgeData

#: Limits of the Horde's pop request.
BLACKLIST_WORDS = 200
BLACKLIST_WORD_LENGTH = 15
#: Seconds an extra slow machine gets at least for loading a model.
SLOW_PRELOAD_TIMEOUT_S = 120


@dataclass(frozen=True)
class Rule:
    """`key` becomes `value(data)` where `applies(data)`; `why` is told when the owner had set it otherwise."""

    key: str
    applies: Callable[[BridgeData], bool]
    value: Callable[[BridgeData], Any]
    why: str


def _slow(key: str, value: Any) -> Rule:
    return Rule(key, lambda data: data.extra_slow_worker, lambda _: value, "extra_slow_worker is on")


def _set(data: BridgeData, key: str) -> bool:
    return key in data.model_fields_set


#: Applied in this order, each to the outcome of the one before.
RULES = (
    Rule(
        "horde_url",
        lambda data: is_public_horde(data.horde_url) and data.horde_url.rstrip("/") != PUBLIC_HORDE.rstrip("/"),
        lambda _: PUBLIC_HORDE,
        "there is the API of the public Horde",
    ),
    Rule(
        "horde_url",
        lambda data: data.horde_url.rstrip("/").endswith("/v2"),
        lambda data: data.horde_url.rstrip("/").removesuffix("/v2"),
        "the version of the API is put there by the worker",
    ),
    Rule(
        "models_to_load",
        lambda data: not data.models_to_load and not data.custom_models,
        lambda _: DEFAULT_MODELS,
        "an empty list would serve nothing",
    ),
    Rule("allow_painting", lambda data: not data.allow_img2img, lambda _: False, "it needs allow_img2img"),
    Rule("allow_controlnet", lambda data: not data.allow_img2img, lambda _: False, "it needs allow_img2img"),
    Rule("allow_sdxl_controlnet", lambda data: not data.allow_controlnet, lambda _: False, "it needs allow_controlnet"),
    _slow("high_performance_mode", value=False),
    _slow("moderate_performance_mode", value=False),
    _slow("high_memory_mode", value=False),
    _slow("very_high_memory_mode", value=False),
    _slow("queue_size", 0),
    _slow("max_threads", 1),
    Rule(
        "preload_timeout",
        lambda data: data.extra_slow_worker,
        lambda data: max(data.preload_timeout, SLOW_PRELOAD_TIMEOUT_S),
        "extra_slow_worker is on",
    ),
    Rule(
        "queue_size",
        lambda data: data.max_threads >= 2,  # noqa: PLR2004 - "more than one thread", not a figure to tune
        lambda data: min(data.queue_size, 3),
        "with several threads 3 is the most",
    ),
    Rule(
        "moderate_performance_mode",
        lambda data: data.high_performance_mode,
        lambda _: False,
        "high_performance_mode is on",
    ),
    Rule(
        "process_timeout",
        lambda data: data.high_performance_mode and not _set(data, "process_timeout"),
        lambda _: 100,
        "high_performance_mode is on",
    ),
    Rule(
        "process_timeout",
        lambda data: data.moderate_performance_mode and not _set(data, "process_timeout"),
        lambda _: 150,
        "moderate_performance_mode is on",
    ),
    Rule("high_memory_mode", lambda data: data.very_high_memory_mode, lambda _: True, "very_high_memory_mode is on"),
    Rule(
        "cycle_process_on_model_change", lambda data: data.high_memory_mode, lambda _: False, "high_memory_mode is on"
    ),
)

#: (applies, sentence): combinations that work, but hardly as meant.
CAUTIONS: tuple[tuple[Callable[[BridgeData], bool], str], ...] = (
    (
        lambda data: data.high_memory_mode and data.queue_size == 0,
        "high_memory_mode with queue_size 0 leaves the memory unused while the next job is fetched; use 1 or more.",
    ),
    (
        lambda data: data.high_memory_mode and data.unload_models_from_vram_often,
        "high_memory_mode keeps models in memory, unload_models_from_vram_often clears them out; turn the latter off.",
    ),
)


def settle(data: BridgeData) -> tuple[BridgeData, tuple[str, ...]]:
    """The settings as they count, and a sentence for everything of the owner's that gave way or works badly."""
    warnings: list[str] = []
    written = data.model_fields_set
    for rule in RULES:
        if not rule.applies(data):
            continue
        value = rule.value(data)
        before = getattr(data, rule.key)
        if value == before:
            continue
        if rule.key in written:
            warnings.append(f"{rule.key} is taken as {_shown(value)}, not {_shown(before)}: {rule.why}.")
        data = data.model_copy(update={rule.key: value})
    data = _with_servable_lists(data, warnings)
    warnings += [sentence for applies, sentence in CAUTIONS if applies(data)]
    return data, tuple(warnings)


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return "[" + ", ".join(map(str, value)) + "]"
        case _:
            return str(value)


def _with_servable_lists(data: BridgeData, warnings: list[str]) -> BridgeData:
    """Without the list entries for which the Horde would refuse every pop, or which name no model at all."""
    users = tuple(user for user in data.priority_usernames if re.fullmatch(r".+#[0-9]+", user))
    warnings += [
        f"priority_usernames: {user} is left out; a user is written as name#number, such as db0#1."
        for user in data.priority_usernames
        if user not in users
    ]
    words = tuple(word[:BLACKLIST_WORD_LENGTH] for word in data.blacklist)
    warnings += [
        f"blacklist: {word} is shortened to {kept}; the Horde takes {BLACKLIST_WORD_LENGTH} characters a word."
        for word, kept in zip(data.blacklist, words, strict=True)
        if word != kept
    ]
    if len(words) > BLACKLIST_WORDS:
        warnings.append(f"blacklist: of {len(words)} words the Horde takes {BLACKLIST_WORDS}; the rest is left out.")
    models = tuple(model for model in data.custom_models if not model.missing)
    warnings += [
        f"custom_models: entry {number} ({model.name or 'without a name'}) is left out; it lacks "
        f"{' and '.join(model.missing)}."
        for number, model in enumerate(data.custom_models, 1)
        if model.missing
    ]
    lists = {"priority_usernames": users, "blacklist": words[:BLACKLIST_WORDS], "custom_models": models}
    changed = {key: value for key, value in lists.items() if value != getattr(data, key)}
    return data.model_copy(update=changed)
