"""The settings as text: for an env file, for the owner's eyes, for the documentation.

`python -m worker.config.describe > docs/configuration.md` writes the documentation anew.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from worker.config.environment import PREFIX
from worker.config.key import Effect, Keys, about, allowed
from worker.config.schema import BridgeData, groups

_INTRODUCTION = """\
# Configuration

The worker reads `bridgeData.yaml` in the folder it is started in (`--config FILE` names another). Copy
`bridgeData_template.yaml` to that name and set at least `dreamer_name` and `api_key`. Every other key has a default.

- `horde-bridge config check` tells everything that is wrong with the file, with line numbers; `config show` prints the
  settings that count.
- A key that is not known is ignored with a warning. A key without a value has its default. Keys that other workers have
  and this one does not need are accepted and do nothing; they stand at the end, and `config check` names those you set.
- With `-e` there is no file: each key is taken from an environment variable, `AIWORKER_` and the key in capitals, such
  as `AIWORKER_MAX_POWER=32`. Lists are written `['TOP 3', 'Deliberate']`, as JSON, or with commas or semicolons between
  the elements; an element that contains one stands in quotes. `custom_models` and
  `device_settings` are written as JSON.
  `horde-bridge config to-env` makes such variables from a file.
- A file `.env` beside the configuration adds to the environment; what is set already stays.
- These variables count with and without `-e`: `AIWORKER_CACHE_HOME`, `AIWORKER_DREAMER_WORKER_NAME`,
  `AIWORKER_LORA_CACHE_SIZE` (gigabytes), `AIWORKER_LIMITED_CONSOLE_MESSAGES`, `AI_HORDE_MODEL_META_LARGE_MODELS`,
  `CIVIT_API_TOKEN`, `HORDE_MODEL_REFERENCE_GITHUB_BRANCH`, `AI_HORDE_URL` and `AI_HORDE_DEV_URL`. The command line
  (`-n NAME`) goes before them all.

"Takes effect" says when a change of the file counts while the worker runs: *at once*, when an engine is started next,
or after a restart of the worker.
"""


def config_to_env(data: BridgeData) -> str:
    """One line `AIWORKER_KEY=value` for each key that the owner set or that differs from its default, secrets included.

    Values stand as they are, without quotes around them, as `docker --env-file` wants it; read back with -e they give
    the same settings.
    """
    lines = [
        f"{PREFIX}{name.upper()}={_as_variable(value)}"
        for _, group in groups()
        for name, field in group.model_fields.items()
        if (value := getattr(data, name)) is not None and (name in data.model_fields_set or value != field.default)
    ]
    return "".join(f"{line}\n" for line in lines)


def _as_variable(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            elements = [element.model_dump(mode="json") if isinstance(element, Keys) else element for element in value]
            return json.dumps(elements, ensure_ascii=False)
        case _:
            return str(value)


def config_show(data: BridgeData) -> str:
    """All keys that count as YAML, in groups, secrets masked."""
    values = data.model_dump(mode="json")
    return "\n".join(
        f"# {title}\n" + yaml.safe_dump({name: values[name] for name in group.model_fields}, sort_keys=False, width=120)
        for title, group in groups()
        if any(about(field).effect is not Effect.NONE for field in group.model_fields.values())
    )


def without_effect(data: BridgeData) -> tuple[str, ...]:
    """A sentence for each key that the owner gave a value, and that does nothing here."""
    return tuple(
        f"{name} has no effect here: {told.text}"
        for name, field in BridgeData.model_fields.items()
        if (told := about(field)).effect is Effect.NONE and getattr(data, name) != field.default
    )


def config_reference() -> str:
    """The documentation of every key, as Markdown."""
    parts = [_INTRODUCTION]
    for title, group in groups():
        rows = [_row(name) for name in group.model_fields]
        head = ["| key | allowed | default | takes effect | what it does |", "|---|---|---|---|---|"]
        parts.append("\n".join((f"## {title}", "", *head, *rows)) + "\n")
    return "\n".join(parts)


def _row(name: str) -> str:
    field = BridgeData.model_fields[name]
    told = about(field)
    also = f" Also written {' or '.join(f'`{alias}`' for alias in told.aliases)}." if told.aliases else ""
    cells = (f"`{name}`", allowed(field), _default(field.default), told.effect.value, told.text + also)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case () | "":
            return "empty"
        case tuple():
            return f"`{list(value)}`"
        case bool() | SecretStr() | Path() | str() | int() | float():
            return f"`{_as_variable(value)}`"
    raise TypeError(f"a default of type {type(value).__name__} has no text")


if __name__ == "__main__":
    sys.stdout.write(config_reference())
