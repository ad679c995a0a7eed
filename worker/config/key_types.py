"""Types of the values in bridgeData.yaml, and the documentation that each key carries.

Values reach the schema as the text the owner wrote. Every type here therefore accepts text as well as the native
value, so that the file, the environment and the command line give the same result.
"""

import json
import re
import types
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import urlsplit

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints
from pydantic.fields import FieldInfo

#: The anonymous API key. The Horde accepts it for requests, but not for workers.
ANONYMOUS_KEY = "0000000000"
#: Length of a real API key of the Horde, in characters.
API_KEY_LENGTH = 22

T = TypeVar("T")


class Effect(str, Enum):
    """When a changed value takes effect while the worker runs."""

    AT_ONCE = "at once"
    ENGINE_START = "next engine start"
    RESTART = "restart"
    NONE = "no effect"


@dataclass(frozen=True)
class KeyDoc:
    """Documentation of one key. An empty `allowed` is derived from the key's type."""

    text: str
    effect: Effect
    aliases: tuple[str, ...] = ()
    allowed: str = ""
    least: float | None = None
    most: float | None = None


def key(
    default: T,
    effect: Effect,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    aliases: tuple[str, ...] = (),
    allowed: str = "",
) -> T:
    """A field of a key group with its documentation, bounds and other names."""
    doc: dict[str, Any] = {"doc": KeyDoc(text, effect, aliases, allowed, least, most)}
    field: T = Field(default, ge=least, le=most, json_schema_extra=doc)
    return field


class KeyGroup(BaseModel):
    """Base of the key groups. Pydantic's own errors never show input values, because one of them is the API key."""

    #: heading in the documentation
    TITLE: ClassVar[str] = ""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
        protected_namespaces=(),  # `model_stickiness` is the owner's word
    )


def key_doc(field: FieldInfo) -> KeyDoc:
    """The documentation of a schema field; every field has one."""
    extra: Any = field.json_schema_extra
    doc: KeyDoc = extra["doc"]
    return doc


def bare_type(field: FieldInfo) -> Any:
    """The type of a field without None and without pydantic's annotations."""
    annotation: Any = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def allowed_values(field: FieldInfo) -> str:
    """The values a field accepts, in words that complete `allowed: …`."""
    doc, annotation = key_doc(field), bare_type(field)
    if doc.allowed:
        return doc.allowed
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        what = "a whole number" if annotation is int else "a number"
        if doc.most is not None:
            return f"{what} from {doc.least} to {doc.most}"
        return what if doc.least is None else f"{what}, {doc.least} or more"
    if get_origin(annotation) is tuple:
        return "a list of texts"
    if annotation is Path:
        return "a path"
    return "a text"


def in_words(value: Any) -> str:
    """A value as messages name it."""
    match value:
        case bool():
            return "true" if value else "false"
        case None | "":
            return "nothing"
        case tuple():
            return "[" + ", ".join(str(getattr(item, "name", item)) for item in value) + "]"
        case _:
            return str(value)


def in_yaml(value: Any) -> str:
    """A value as it is written in the settings, where it is no list."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _one_line(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError(
            "it contains a tab, line break or other control character; inside double quotes a backslash starts such "
            "a character, so use single quotes or forward slashes"
        )
    return value


#: One line of text, without surrounding spaces.
Text = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_one_line)]

#: One element of a list in text form: quoted (the closing quote ends the element) or bare.
_ELEMENT = re.compile(r"""\s*(?:"(.*?)"(?=\s*(?:[,;]|$))|'(.*?)'(?=\s*(?:[,;]|$))|([^,;]*))\s*(?:[,;]|$)""")


def split_list(value: Any) -> Any:
    """Split a list given as text: JSON, or elements separated by commas or semicolons, brackets and quotes optional.

    Commas inside quotes belong to the element; empty elements are dropped; a text without commas is a list of one.
    Any other type is returned unchanged.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            text = text[1:].removesuffix("]").rstrip()
    elements = ("".join(found.groups(default="")).strip() for found in _ELEMENT.finditer(text))
    return [element for element in elements if element]


TextList = Annotated[tuple[Text, ...], BeforeValidator(split_list)]


def _worker_name(value: str) -> str:
    if value and any(part in ("", ".", "..") for part in re.split(r"[/\\]", value)):
        raise ValueError("it looks like a path")
    if re.search("[<>]", value):
        raise ValueError("the Horde removes < and > from names")
    if "colab" in value.lower():
        raise ValueError("the Horde refuses names that contain colab")
    return value


#: A worker's name as the Horde accepts it.
WorkerName = Annotated[Text, AfterValidator(_worker_name)]


def _as_devices(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    listed = split_list(value)
    elements = listed if isinstance(listed, Sequence) else [listed]
    devices = tuple(_as_device(element) for element in elements)
    if not devices or len(set(devices)) < len(devices):
        raise ValueError("a device is listed twice" if devices else "no device is listed")
    return devices


def _as_device(value: Any) -> int | str:
    text = str(value).strip().lower()
    if text != "cpu" and not re.fullmatch(r"[0-9]{1,3}", text):
        raise ValueError("a device is neither a number nor cpu")
    return text if text == "cpu" else int(text)


#: GPU numbers in the driver's order, or the CPU; "auto" means every GPU found.
Devices = Annotated[Literal["auto"] | tuple[int | Literal["cpu"], ...], BeforeValidator(_as_devices)]


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it does not start with http:// or https:// and a host name")
    return value


WebAddress = Annotated[Text, AfterValidator(_web_address)]


def _token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value().strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("it contains spaces or non-ASCII characters")
    return SecretStr(token)


#: A secret sent in HTTP headers.
Token = Annotated[SecretStr, AfterValidator(_token)]


def _api_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    if key != ANONYMOUS_KEY and len(key) != API_KEY_LENGTH:
        raise ValueError(f"it has {len(key)} characters, a key has {API_KEY_LENGTH}")
    return _token(SecretStr(key))


ApiKey = Annotated[SecretStr, AfterValidator(_api_key)]


def _home_expanded(value: Path) -> Path:
    try:
        return Path(_one_line(str(value).strip())).expanduser()
    except RuntimeError as error:
        raise ValueError("~ is used, but the home folder is unknown") from error


#: A path; ~ means the home folder.
Location = Annotated[Path, AfterValidator(_home_expanded)]


class CustomModel(KeyGroup):
    """An owner's model that the Horde's reference does not list: one file, or several files by purpose."""

    model_config = ConfigDict(extra="ignore")

    name: Text = ""
    baseline: Text = ""
    filepath: Text = ""
    #: purpose (checkpoint, unet, text_encoder, text_encoder_2, vae, stage_b, stage_c) -> path
    files: dict[Text, Text] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        """The required fields that have no value."""
        required = {"name": self.name, "baseline": self.baseline, "filepath": self.filepath or self.files}
        return tuple(name for name, value in required.items() if not value)


class MemoryMode(str, Enum):
    """How much of a device's memory the engines keep occupied."""

    NORMAL = "normal"
    HIGH = "high"
    VERY_HIGH = "very_high"


class DeviceSettings(KeyGroup):
    """Settings of one device; None and empty mean: as for all devices."""

    device: Annotated[int | Literal["cpu"], BeforeValidator(_as_device)]
    max_threads: Annotated[int, Ge(1), Le(16)] | None = None
    max_power: Annotated[int, Ge(1), Le(512)] | None = None
    memory_mode: MemoryMode | None = None
    models: TextList = ()


def _as_entries(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error


CustomModels = Annotated[tuple[CustomModel, ...], BeforeValidator(_as_entries)]
DeviceEntries = Annotated[tuple[DeviceSettings, ...], BeforeValidator(_as_entries)]
