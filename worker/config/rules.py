"""Dependencies between keys. Nothing here fails: a value is replaced, and a warning says so.

A replaced default is not worth a warning; a replaced value of the owner is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.config.dashboard_keys import LOOPBACK, is_loopback
from worker.config.key_types import in_words
from worker.config.schema import BridgeData
from worker.config.serving_keys import DEFAULT_MODELS, PUBLIC_HORDE, is_public_horde

#: Limits of the Horde's pop request: words, and characters per word.
BLACKLIST_WORDS = 200
BLACKLIST_WORD_LENGTH = 15
#: Least `preload_timeout` of an extra slow worker, in seconds.
SLOW_PRELOAD_TIMEOUT_S = 120
#: Largest `queue_size` with several threads: more jobs would wait longer than their ttl allows.
MAX_QUEUE_WITH_THREADS = 3

Condition = Callable[[BridgeData], object]


@dataclass(frozen=True)
class Rule:
    """Where `applies(data)`, `key` is set to `value` (or its result, if callable), because of `why`."""

    key: str
    applies: Condition
    value: Any
    why: str


def _is_on(key: str) -> Condition:
    return lambda data: getattr(data, key)


def _is_off(key: str) -> Condition:
    return lambda data: not getattr(data, key)


def _slow(key: str, value: Any) -> Rule:
    return Rule(key, _is_on("extra_slow_worker"), value, "extra_slow_worker is on")


def _mode_timeout(mode: str, timeout_s: int) -> Rule:
    return Rule(
        "process_timeout",
        lambda data: getattr(data, mode) and "process_timeout" not in data.model_fields_set,
        timeout_s,
        f"{mode} is on",
    )


#: Applied in this order, each to the result of the previous ones.
RULES = (
    Rule(
        "horde_url",
        lambda data: is_public_horde(data.horde_url) and data.horde_url.rstrip("/") != PUBLIC_HORDE.rstrip("/"),
        PUBLIC_HORDE,
        "that is the API of the public Horde",
    ),
    Rule(
        "horde_url",
        lambda data: data.horde_url.rstrip("/").endswith("/v2"),
        lambda data: data.horde_url.rstrip("/").removesuffix("/v2"),
        "the worker adds the version of the API itself",
    ),
    Rule(
        "models_to_load",
        lambda data: not data.models_to_load and not data.custom_models,
        DEFAULT_MODELS,
        "an empty list would serve nothing",
    ),
    Rule(
        "dreamer_name",
        lambda data: data.worker_name and "dreamer_name" not in data.model_fields_set,
        lambda data: data.worker_name,
        "worker_name is set",
    ),
    Rule("allow_painting", _is_off("allow_img2img"), False, "it needs allow_img2img"),
    Rule("allow_controlnet", _is_off("allow_img2img"), False, "it needs allow_img2img"),
    Rule("allow_sdxl_controlnet", _is_off("allow_controlnet"), False, "it needs allow_controlnet"),
    _slow("high_performance_mode", value=False),
    _slow("moderate_performance_mode", value=False),
    _slow("high_memory_mode", value=False),
    _slow("very_high_memory_mode", value=False),
    _slow("queue_size", 0),
    _slow("max_threads", 1),
    _slow("preload_timeout", lambda data: max(data.preload_timeout, SLOW_PRELOAD_TIMEOUT_S)),
    Rule(
        "queue_size",
        lambda data: data.max_threads > 1,
        lambda data: min(data.queue_size, MAX_QUEUE_WITH_THREADS),
        f"{MAX_QUEUE_WITH_THREADS} is the most with several threads",
    ),
    Rule("moderate_performance_mode", _is_on("high_performance_mode"), False, "high_performance_mode is on"),
    _mode_timeout("high_performance_mode", 100),
    _mode_timeout("moderate_performance_mode", 150),
    Rule("high_memory_mode", _is_on("very_high_memory_mode"), True, "very_high_memory_mode is on"),
    Rule("cycle_process_on_model_change", _is_on("high_memory_mode"), False, "high_memory_mode is on"),
    Rule(
        "dashboard_address",
        lambda data: not is_loopback(data.dashboard_address) and data.dashboard_token is None,
        LOOPBACK,
        "other machines may reach the page only with a dashboard_token of your own",
    ),
)

#: (applies, warning): combinations that work, but probably not as intended.
CAUTIONS: tuple[tuple[Condition, str], ...] = (
    (
        lambda data: "/" in data.dreamer_name,
        "dreamer_name contains a slash: the Horde cannot look up such a worker, so maintenance mode does not work.",
    ),
    (
        lambda data: data.worker_name and data.dreamer_name == data.worker_name,
        "worker_name is used as the name, because dreamer_name is not set; write dreamer_name instead.",
    ),
    (
        lambda data: data.high_memory_mode and data.queue_size == 0,
        "high_memory_mode with queue_size 0 leaves the memory unused while the next job is fetched; use 1 or more.",
    ),
    (
        lambda data: data.high_memory_mode and data.unload_models_from_vram_often,
        "high_memory_mode keeps models in memory, unload_models_from_vram_often removes them; turn the latter off.",
    ),
    (
        lambda data: data.dynamic_models and data.number_of_dynamic_models == 0,
        "dynamic_models has no effect with number_of_dynamic_models 0: every model of models_to_load is offered.",
    ),
    (
        lambda data: data.dashboard_announce_to and not data.dashboard_announce_token,
        "dashboard_announce_to has no effect without dashboard_announce_token, the dashboard_token of that worker.",
    ),
)


def settle(data: BridgeData) -> tuple[BridgeData, tuple[str, ...]]:
    """The settings with all rules applied, and a warning for each value of the owner that was replaced."""
    warnings: list[str] = []
    written = data.model_fields_set
    for rule in RULES:
        if not rule.applies(data):
            continue
        value = rule.value(data) if callable(rule.value) else rule.value
        before = getattr(data, rule.key)
        if value == before:
            continue
        if rule.key in written:
            warnings.append(f"{rule.key} is changed from {in_words(before)} to {in_words(value)}: {rule.why}.")
        data = data.model_copy(update={rule.key: value})
    data = _with_servable_lists(data, warnings)
    warnings += [sentence for applies, sentence in CAUTIONS if applies(data)]
    return data, tuple(warnings)


def _with_servable_lists(data: BridgeData, warnings: list[str]) -> BridgeData:
    """Remove list entries that would make the Horde refuse every pop, or that describe no model."""
    users = tuple(user for user in data.priority_usernames if re.fullmatch(r".+#[0-9]+", user))
    warnings += [
        f"priority_usernames: {user} is left out; write users as name#number, such as db0#1."
        for user in data.priority_usernames
        if user not in users
    ]
    words = tuple(word[:BLACKLIST_WORD_LENGTH] for word in data.blacklist)
    warnings += [
        f"blacklist: {word} is shortened to {kept}; the Horde accepts {BLACKLIST_WORD_LENGTH} characters per word."
        for word, kept in zip(data.blacklist, words, strict=True)
        if word != kept
    ]
    if len(words) > BLACKLIST_WORDS:
        warnings.append(f"blacklist: the Horde accepts {BLACKLIST_WORDS} of {len(words)} words; the rest is left out.")
    models = tuple(model for model in data.custom_models if not model.missing)
    warnings += [
        f"custom_models: entry {number} ({model.name or 'without a name'}) is left out; it has no "
        f"{' and '.join(model.missing)}."
        for number, model in enumerate(data.custom_models, 1)
        if model.missing
    ]
    lists = {"priority_usernames": users, "blacklist": words[:BLACKLIST_WORDS], "custom_models": models}
    changed = {key: value for key, value in lists.items() if value != getattr(data, key)}
    return data.model_copy(update=changed)
