"""Generate docs/configuration.md from the schema: `python -m tools.config_reference > docs/configuration.md`."""

import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from worker.config.export import as_variable
from worker.config.key_types import allowed_values, key_doc
from worker.config.schema import GROUPS, BridgeData

_INTRODUCTION = """\
# Configuration

The worker reads `bridgeData.yaml` from the folder it is started in (`--config FILE` selects another file).
`horde-bridge setup` asks for what is needed and writes it; or copy `bridgeData_template.yaml` to that name and set at
least `dreamer_name` and `api_key`. Every other key has a default.

- `horde-bridge config check` reports every problem in the file with its line number; `config show` prints the settings
  in force.
- An unknown key is ignored with a warning. A key without a value has its default. Keys of other workers are accepted
  without effect; they are listed at the end, and `config check` names those you set.
- With `-e` there is no file: each key is read from an environment variable, `AIWORKER_` and the key in capitals, such
  as `AIWORKER_MAX_POWER=32`. Write lists as `['TOP 3', 'Deliberate']`, as JSON, or with commas or semicolons between
  the elements; quote an element that contains one. Write `custom_models` and `device_settings` as JSON.
  `horde-bridge config to-env` creates such variables from a file. Quotes around a value, blanks and a comment after it,
  which `docker run --env-file` passes on, are removed.
- A file `.env` beside the configuration adds variables to the environment; it does not override existing ones.
- These variables apply with and without `-e`: `AIWORKER_CACHE_HOME`, `AIWORKER_DREAMER_WORKER_NAME`,
  `AIWORKER_LORA_CACHE_SIZE` (gigabytes), `AIWORKER_LIMITED_CONSOLE_MESSAGES`, `AI_HORDE_MODEL_META_LARGE_MODELS`,
  `CIVIT_API_TOKEN`, `HORDE_MODEL_REFERENCE_GITHUB_BRANCH`, `AI_HORDE_URL` and `AI_HORDE_DEV_URL`. The command line
  (`-n NAME`) overrides all of them.

"Takes effect" says when a change of the file takes effect while the worker runs: *at once*, at the next engine start,
or after a restart of the worker.
"""


def config_reference() -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION]
    for group in GROUPS:
        rows = [_row(name) for name in group.model_fields]
        head = ["| key | allowed | default | takes effect | what it does |", "|---|---|---|---|---|"]
        parts.append("\n".join((f"## {group.TITLE}", "", *head, *rows)) + "\n")
    return "\n".join(parts)


def _row(name: str) -> str:
    field = BridgeData.model_fields[name]
    doc = key_doc(field)
    also = f" Also written {' or '.join(f'`{alias}`' for alias in doc.aliases)}." if doc.aliases else ""
    cells = (f"`{name}`", allowed_values(field), _default(field.default), doc.effect.value, doc.text + also)
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
            return f"`{as_variable(value)}`"
    raise TypeError(f"no text for a default of type {type(value).__name__}")


if __name__ == "__main__":
    sys.stdout.write(config_reference())
