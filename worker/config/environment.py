"""Settings from the environment: .env, all keys as AIWORKER_* (option -e), and the variables that always apply."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values

from worker.config.schema import FIELDS, SECRETS, BridgeData, nearest
from worker.config.serving_keys import is_public_horde
from worker.config.setting import Setting, by_field, unknown
from worker.errors import ConfigError
from worker.units import listed

PREFIX = "AIWORKER_"
PLACE = "environment"
#: Variables with the prefix that are not keys: used by scripts and compose files, or read elsewhere.
NO_KEYS = frozenset(
    {
        "AIWORKER_BRIDGE_DATA_LOCATION",
        "AIWORKER_LAUNCHER_PID",
        "AIWORKER_LOGS_DIR",
        "AIWORKER_LOG_FORMAT",
        "AIWORKER_LORA_CACHE_SIZE",
        "AIWORKER_NOT_RECOMMENDED_VERSION",
        "AIWORKER_NOT_REQUIRED_VERSION",
        "AIWORKER_RUNTIME_DIR",
        "AIWORKER_STATE_DIR",
    }
)
#: Ends the name of a variable that names the file with a secret.
FILE_SUFFIX = "_FILE"
_MAX_SECRET_BYTES = 4096
#: Variables that a warning names at most.
MOST_NAMED = 5
#: A comment after a value: a # between blanks, as examples of env files have it. `worker #1` has none.
_COMMENT = re.compile(r"\s+#\s.*$", re.DOTALL)
#: Every spelling of a key as the file has it, by the lower case of variables.
_KEYS = {name.lower(): name for name in FIELDS}
#: Values that turn a switch variable off; any other non-empty value turns it on.
OFF = frozenset({"0", "false", "no", "off"})


def with_dotenv(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment plus `.env` of the folder, which overrides nothing. Raises ConfigError."""
    file = folder / ".env"
    if not file.is_file():
        return dict(environment)
    try:
        written = dotenv_values(file, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the file cannot be read: {_reason(error)}.", remedy="Save it as UTF-8.") from error
    return {name: value for name, value in written.items() if value is not None} | dict(environment)


def with_secret_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, with the content of the file that AIWORKER_<SECRET>_FILE names as AIWORKER_<SECRET>.

    Docker and Kubernetes hand secrets over as files. Raises ConfigError for a file that is none or that can't be
    read, and where both variables are set.
    """
    found = dict(environment)
    for variable in sorted(environment):
        name = variable.upper().removeprefix(PREFIX).removesuffix(FILE_SUFFIX)
        if variable.upper() != f"{PREFIX}{name}{FILE_SUFFIX}" or FIELDS.get(_KEYS.get(name.lower(), "")) not in SECRETS:
            continue
        path = unquoted(found.pop(variable))
        meant = f"{PREFIX}{name}"
        if not path:
            continue
        if environment.get(meant, "").strip():
            raise ConfigError(f"{PLACE}: {variable} and {meant} are both set.", remedy=f"Unset {meant}.")
        found[meant] = _secret(Path(path), variable)
    return found


def _secret(path: Path, variable: str) -> str:
    remedy = f"Let {variable} name a file that this user can read and that holds the secret alone."
    if not path.is_file():  # opening a FIFO would wait for a writer
        raise ConfigError(f"{PLACE}: {variable} names {path}, which is no file.", remedy=remedy)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SECRET_BYTES + 1)
        text = data.decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{PLACE}: {variable}: {path} cannot be read: {_reason(error)}.", remedy=remedy) from error
    if not text or len(data) > _MAX_SECRET_BYTES:
        what = "is empty" if not text else f"has more than {_MAX_SECRET_BYTES} bytes"
        raise ConfigError(f"{PLACE}: {variable}: {path} {what}.", remedy=remedy)
    return text


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else error.reason


def from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Setting], tuple[str, ...]]:
    """Every AIWORKER_* variable by the attribute it sets, and warnings. Empty variables count as unset."""
    settings: list[Setting] = []
    warnings: list[str] = []
    for variable in sorted(environment):
        value = environment[variable]
        if not variable.upper().startswith(PREFIX) or variable.upper() in NO_KEYS or not value.strip():
            continue
        name = variable[len(PREFIX) :].lower()
        if name in _KEYS:
            settings.append(Setting(_KEYS[name], unquoted(value), f"{PLACE}: {variable}"))
        else:
            meant = nearest(name)
            warnings.append(f"{PLACE}: {variable} {unknown(meant and PREFIX + meant.upper())}")
    chosen, repeated = by_field(settings)
    return chosen, (*warnings, *repeated)


def unread(environment: Mapping[str, str], written: Mapping[str, Setting]) -> str:
    """A warning of variables that would set a key with -e, and do nothing beside a file; empty if there are none."""
    found, _ = from_environment(environment)
    counting = {variable for variable, _, _ in _always(environment, written)}
    names = [place.removeprefix(f"{PLACE}: ") for place in (setting.place for setting in found.values())]
    lost = [name for name in sorted(names) if name not in counting]
    if not lost:
        return ""
    return (
        f"{PLACE}: {listed(lost, MOST_NAMED)}: no effect without -e, which reads the settings from variables "
        "in place of the file."
    )


def unquoted(value: str) -> str:
    """`value` without surrounding blanks, one pair of quotes, and a comment: `docker run --env-file` passes all on.

    Quotes of a list's first and last element stay.
    """
    text = value.strip()
    if text[:1] not in ("'", '"') or text[-1:] != text[:1]:
        text = _COMMENT.sub("", text)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        inner = text[1:-1]
        if text[0] not in inner or inner.lstrip().startswith(("[", "{")):
            return inner.strip()
    return text


def always(environment: Mapping[str, str], written: Mapping[str, Setting]) -> dict[str, Setting]:
    """Settings that apply with and without -e, given what the owner has `written`."""
    return {
        FIELDS[name]: Setting(name, value, f"{PLACE}: {variable}")
        for variable, name, value in _always(environment, written)
    }


def _always(environment: Mapping[str, str], written: Mapping[str, Setting]) -> Iterator[tuple[str, str, str]]:
    def value_of(variable: str) -> str:
        return unquoted(environment.get(variable, ""))

    for variable, name in (
        ("AIWORKER_CACHE_HOME", "cache_home"),
        ("AIWORKER_DREAMER_WORKER_NAME", "dreamer_name"),
        ("AIWORKER_LORA_CACHE_SIZE", "max_lora_cache_size"),
    ):
        if value := value_of(variable):
            yield variable, name, value
    for variable, name in (
        ("AIWORKER_LIMITED_CONSOLE_MESSAGES", "limited_console_messages"),
        ("AI_HORDE_MODEL_META_LARGE_MODELS", "load_large_models"),
    ):
        if (value := value_of(variable)) and value.lower() not in OFF:
            yield variable, name, "true"
    if (value := value_of("CIVIT_API_TOKEN")) and _unset(written, "civitai_api_token"):
        yield "CIVIT_API_TOKEN", "civitai_api_token", value
    if (value := value_of("HORDE_MODEL_REFERENCE_GITHUB_BRANCH")) and _unset(written, "model_reference_branch"):
        yield "HORDE_MODEL_REFERENCE_GITHUB_BRANCH", "model_reference_branch", value
    if value := value_of("AI_HORDE_DEV_URL"):
        yield "AI_HORDE_DEV_URL", "horde_url", value
    # The file of almost every owner names the public Horde, as the template does; the variable is more specific.
    elif (value := value_of("AI_HORDE_URL")) and (
        _unset(written, "horde_url") or is_public_horde(str(written["horde_url"].value))
    ):
        yield "AI_HORDE_URL", "horde_url", value


def _unset(written: Mapping[str, Setting], field: str) -> bool:
    return field not in written or written[field].empty


def download_tokens(config: BridgeData, environment: Mapping[str, str]) -> dict[str, str]:
    """Host → token for downloads from it."""
    civitai = config.civitai_api_token
    tokens = {
        "civitai.com": civitai.get_secret_value() if civitai else "",
        "huggingface.co": environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN") or "",
    }
    return {host: token for host, token in tokens.items() if token}
