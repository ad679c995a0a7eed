"""Load the settings from file, environment and command line. Later sources override earlier ones:

defaults < bridgeData.yaml (or, with -e, AIWORKER_*) < variables that always apply < command line
"""

import contextlib
import errno
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from worker.config import environment as variables
from worker.config.document import read_document
from worker.config.key_types import allowed_values
from worker.config.rules import settle
from worker.config.schema import FIELDS, SECRETS, BridgeData
from worker.config.setting import Setting, by_field
from worker.errors import ConfigError

#: Default file, in the current folder.
FILE_NAME = "bridgeData.yaml"
#: In the repository and beside the packages of an installed wheel.
TEMPLATE = Path(__file__).resolve().parents[2] / "bridgeData_template.yaml"
#: Size limit of the file, in bytes; the commented template has 8 kB.
MAX_FILE_BYTES = 250_000
BYTE_ORDER_MARK = "\ufeff"
#: Characters of a wrong value shown in an error.
SHOWN_LENGTH = 60

_COPY_TEMPLATE = (
    f"`horde-bridge setup` asks for what is needed and writes {FILE_NAME}; or copy {TEMPLATE} to it, "
    "and set dreamer_name and api_key."
)


@dataclass(frozen=True)
class LoadedConfig:
    data: BridgeData
    #: the file's path, or "environment"
    source: str
    #: sentences for the owner
    warnings: tuple[str, ...]
    #: what the owner wrote, by the attribute it sets
    written: Mapping[str, Setting] = field(repr=False)
    #: the environment including .env, for child processes; it may contain secrets
    environment: Mapping[str, str] = field(repr=False)

    def place(self, key: str, item: int | None = None) -> str:
        """Where a key, or an element of its list, is written; the source where it is not."""
        return self.written[key].place_of(item) if key in self.written else self.source


def load_config(
    path: Path | None,
    *,
    environment: Mapping[str, str],
    from_env: bool = False,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    text: str | None = None,
) -> LoadedConfig:
    """Read and check the settings and apply the rules. `overrides` are values from the command line, by key.

    `text`: what the file is to have, in place of what it has.

    Raises ConfigError for a file that is missing or not YAML, and one ConfigError for all wrong values together.
    """
    path = path or Path(FILE_NAME)
    environment = variables.with_secret_files(variables.with_dotenv(path.parent, environment))
    written, warnings = variables.from_environment(environment) if from_env else from_file(path, text)
    if from_env and not written:
        warnings = (*warnings, f"{variables.PLACE}: -e is given, but no {variables.PREFIX}* variable sets a key.")
    if not from_env and (unread := variables.unread(environment, written)):
        warnings = (*warnings, unread)
    settings = written | variables.always(environment, written) | _from_command_line(overrides)
    empty = {name: setting for name, setting in settings.items() if setting.empty}
    data, settled = settle(_validated({name: settings[name] for name in settings if name not in empty}))
    return LoadedConfig(
        data=data,
        source=variables.PLACE if from_env else str(path),
        warnings=(*warnings, *_defaulted(empty), *settled),
        written=settings,
        environment=environment,
    )


def check_text(text: str, file: str) -> BridgeData:
    """What the text of a settings file means by itself. Raises ConfigError, as `load_config` does."""
    return _settled(text, file)[0]


def contradictions(text: str, file: str) -> tuple[str, ...]:
    """What the values of a text make of one another: a sentence for each that is changed, or without effect."""
    return _settled(text, file)[1]


def _settled(text: str, file: str) -> tuple[BridgeData, tuple[str, ...]]:
    written, _ = by_field(read_document(text, file))
    return settle(_validated({name: setting for name, setting in written.items() if not setting.empty}))


def read_value(setting: Setting) -> Any:
    """The value that a single setting stands for, as the schema has it. Raises ConfigError."""
    field = FIELDS[setting.name]
    return getattr(_validated({field: setting}), field)


def config_files(loaded: LoadedConfig) -> tuple[Path, ...]:
    """The files these settings come from, whether or not they exist; none for settings from the environment."""
    if loaded.source == variables.PLACE:
        return ()
    return (Path(loaded.source), Path(loaded.source).parent / ".env")


def from_file(path: Path, text: str | None = None) -> tuple[dict[str, Setting], tuple[str, ...]]:
    """The settings of a file, or of `text`, by the attribute they set, and warnings. Raises ConfigError."""
    written = read_document(read_text(path) if text is None else text, str(path))
    settings, warnings = by_field(written)
    return settings, warnings if written else (f"{path}: the file sets nothing; every key has its default.",)


def read_text(path: Path) -> str:
    """The text of a settings file, whatever editors save it as. Raises ConfigError."""
    if path.suffix == ".py":
        raise ConfigError(f"{path}: the file is a Python program, as very old workers used.", remedy=_COPY_TEMPLATE)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a FIFO would wait for a writer
            raise _not_a_file(path, mode)
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        is_loop = getattr(error, "errno", None) == errno.ELOOP
        remedy = "Replace the link, which leads to itself, by a file." if is_loop else "Check its permissions."
        raise ConfigError(f"{path}: the file cannot be read: {reason}.", remedy=remedy) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: the file is larger than {MAX_FILE_BYTES} bytes.", remedy="Is it the right file?")
    if data and not data.strip(b"\0"):
        raise ConfigError(
            f"{path}: the file is nothing but zero bytes, as a power cut leaves them.",
            remedy=f"Restore an earlier version (a {path.name}.before-… beside it), or begin anew. {_COPY_TEMPLATE}",
        )
    try:
        return data.decode(file_encoding(data)).removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: a character is not UTF-8.", remedy="Save the file as UTF-8.") from error


def _not_a_file(path: Path, mode: int) -> ConfigError:
    if stat.S_ISDIR(mode) and path.name == FILE_NAME:
        return ConfigError(
            f"{path} is a folder, not a file.",
            remedy=f"Docker creates such a folder where a mounted file is missing: remove it. {_COPY_TEMPLATE}",
        )
    what = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
    return ConfigError(f"{path} is {what}, not a file.", remedy=f"Name a file such as {FILE_NAME}.")


def file_encoding(data: bytes) -> str:
    """UTF-16 if a byte order mark or zero bytes say so, as some Windows editors save; else UTF-8.

    Where there is a mark, it is decoded as the first character of the text.
    """
    if data[:2] == b"\xff\xfe" or data[1:2] == b"\0":
        return "utf-16-le"
    return "utf-16-be" if data[:2] == b"\xfe\xff" or data[:1] == b"\0" else "utf-8"


def _missing(path: Path) -> ConfigError:
    """The error for a file that does not exist; it names a file beside it that may be meant."""
    with contextlib.suppress(OSError):
        names = (other.name for other in path.parent.iterdir())
        stem = path.name.lower().split(".")[0]
        similar = sorted(name for name in names if name.lower().startswith(f"{stem}.") and name != path.name)
        if similar and not similar[0].endswith(".py"):
            return ConfigError(
                f"{path}: there is no such file, but there is {path.parent / similar[0]}.",
                remedy=f"Rename it to {path.name}.",
            )
        if similar:
            return ConfigError(
                f"{path}: there is no such file; {similar[0]} belongs to very old workers.", remedy=_COPY_TEMPLATE
            )
    return ConfigError(
        f"{path}: there is no such file.",
        remedy=f"{_COPY_TEMPLATE} Or use -e to read the settings from {variables.PREFIX}* variables.",
    )


def _from_command_line(overrides: Mapping[str, Any]) -> dict[str, Setting]:
    settings, unknown = by_field(Setting(name, value, "command line") for name, value in overrides.items())
    if unknown:
        raise ConfigError("\n".join(unknown))
    return {name: setting for name, setting in settings.items() if not setting.empty}


def _defaulted(empty: Mapping[str, Setting]) -> tuple[str, ...]:
    """A warning for each key without a value, unless its default is empty as well."""
    return tuple(
        setting.sentence("has no value; the default is used.")
        for name, setting in empty.items()
        if BridgeData.model_fields[name].default not in (None, ())
    )


def _validated(settings: Mapping[str, Setting]) -> BridgeData:
    try:
        return BridgeData.model_validate({name: setting.value for name, setting in settings.items()})
    except ValidationError as error:
        order = list(settings)
        found = sorted(error.errors(include_url=False), key=lambda problem: order.index(str(problem["loc"][0])))
        problems = dict.fromkeys(_problem(settings, problem) for problem in found)
    raise ConfigError("\n".join(problems), remedy="docs/configuration.md describes every key.")


def _problem(settings: Mapping[str, Setting], found: ErrorDetails) -> str:
    name, *inner = found["loc"]
    setting = settings[str(name)]
    item = next((part for part in inner if isinstance(part, int)), None)
    value = "the value" if name in SECRETS else _shown(found["input"])
    own = found.get("ctx", {}).get("error")
    why = f" ({own})" if isinstance(own, ValueError) else ""
    return setting.sentence(
        f"{value} is not allowed{why}; allowed: {allowed_values(BridgeData.model_fields[str(name)])}.", item
    )


def _shown(value: Any) -> str:
    match value:
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            text = str(value)
            return repr(text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "…")
