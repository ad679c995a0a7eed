"""The settings as text: an env file, a listing with masked secrets, notes about ignored keys."""

import json
from typing import Any

import yaml
from pydantic import SecretStr

from worker.config.environment import PREFIX, unquoted
from worker.config.key_types import Effect, KeyGroup, key_doc
from worker.config.schema import GROUPS, BridgeData


def config_to_env(data: BridgeData) -> str:
    """One line `AIWORKER_KEY=value` for each key that is set or differs from its default, secrets included.

    Values are not quoted, as `docker run --env-file` expects. Read back with -e they give the same settings.
    """
    return "".join(
        f"{PREFIX}{name.upper()}={as_variable(value)}\n"
        for group in GROUPS
        for name, field in group.model_fields.items()
        if (value := getattr(data, name)) is not None and (name in data.model_fields_set or value != field.default)
    )


def as_variable(value: Any) -> str:
    """A value as the text of an environment variable."""
    match value:
        case bool():
            return "true" if value else "false"
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            elements = [item.model_dump(mode="json") if isinstance(item, KeyGroup) else item for item in value]
            return json.dumps(elements, ensure_ascii=False)
        case _:
            return _quoted_if_needed(str(value))


def _quoted_if_needed(text: str) -> str:
    """`text` in an extra pair of quotes where reading would take its own quotes away."""
    if unquoted(text) == text:
        return text
    return next((quoted for mark in "'\"" if unquoted(quoted := f"{mark}{text}{mark}") == text), text)


def config_show(data: BridgeData) -> str:
    """Every key in force as YAML, by group, with secrets masked."""
    values = data.model_dump(mode="json")
    return "\n".join(
        f"# {group.TITLE}\n"
        + yaml.safe_dump({name: values[name] for name in group.model_fields}, sort_keys=False, width=120)
        for group in GROUPS
        if any(key_doc(field).effect is not Effect.NONE for field in group.model_fields.values())
    )


def ignored_keys(data: BridgeData) -> tuple[str, ...]:
    """One sentence for each ignored key to which the owner gave another value than its default."""
    return tuple(
        f"{name} has no effect. {doc.text}"
        for name, field in BridgeData.model_fields.items()
        if (doc := key_doc(field)).effect is Effect.NONE and getattr(data, name) != field.default
    )
