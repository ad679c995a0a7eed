"""What a key of bridgeData.yaml is: its description, when a change counts, and the kinds of value it takes.

Values reach the schema as the owner wrote them, as text; every kind here therefore accepts text as well as the
native value, so that the file, the environment and the command line mean the same.
"""

import json
import re
import types
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from annotated_types import Ge, Le, MaxLen
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, StringConstraints
from pydantic.fields import FieldInfo

#: The key everyone may use to look around; the Horde lets no worker serve with it.
ANONYMOUS_KEY = "0000000000"
#: Length of a real API key of the Horde, in characters.
API_KEY_LENGTH = 22


class Effect(str, Enum):
    """When a changed value counts while the worker runs."""

    AT_ONCE = "at once"
    ENGINE_START = "next engine start"
    RESTART = "restart"
    NONE = "no effect"


@dataclass(frozen=True)
class About:
    """What is to be said of one key. `allowed` is derived from the key's type where it is empty."""

    text: str
    effect: Effect
    aliases: tuple[str, ...] = ()
    allowed: str = ""


class Keys(BaseModel):
    """A group of keys. Input values never show in pydantic's own errors: one of them is the API key."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
        protected_namespaces=(),  # `model_stickiness` is the owner's word
    )


def about(field: FieldInfo) -> About:
    """The description every field of the schema carries."""
    return next(item for item in field.metadata if isinstance(item, About))


def kind(field: FieldInfo) -> Any:
    """A key's bare type: without None, without what pydantic is told about it."""
    annotation: Any = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def allowed(field: FieldInfo) -> str:
    """What a key takes, as the end of the sentence `allowed: …`."""
    if text := about(field).allowed:
        return text
    annotation = kind(field)
    low, high, longest = (
        next((getattr(item, name) for item in field.metadata if isinstance(item, bound)), None)
        for bound, name in ((Ge, "ge"), (Le, "le"), (MaxLen, "max_length"))
    )
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        what = "a whole number" if annotation is int else "a number"
        if high is not None:
            return f"{what} from {low} to {high}"
        return what if low is None else f"{what}, {low} or more"
    if get_origin(annotation) is tuple:
        return "a list of texts"
    if annotation is Path:
        return "a path"
    return "a text" if longest is None else f"a text of at most {longest} characters"


def _one_line(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError(
            "a tab, line break or other control character stands in it; inside double quotes a backslash begins "
            "such a character, so write single quotes or forward slashes"
        )
    return value


#: One line of text; spaces around it don't count.
Text = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_one_line)]

#: One element of a written list: quoted (the quote ends where the element does) or bare.
_ELEMENT = re.compile(r"""\s*(?:"(.*?)"(?=\s*(?:[,;]|$))|'(.*?)'(?=\s*(?:[,;]|$))|([^,;]*))\s*(?:[,;]|$)""")


def split_list(value: Any) -> Any:
    """A list written as one text: JSON, or elements between commas or semicolons with or without brackets and quotes.

    Commas inside quotes belong to the element, empty elements are left out, a text without commas is a list of
    one. Anything but text is returned as it is.
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


def _as_devices(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    listed = split_list(value)
    elements = listed if isinstance(listed, Sequence) else [listed]
    devices = tuple(_as_device(element) for element in elements)
    if not devices or len(set(devices)) < len(devices):
        raise ValueError("a device is named twice" if devices else "no device is named")
    return devices


def _as_device(value: Any) -> int | str:
    text = str(value).strip().lower()
    if text != "cpu" and not re.fullmatch(r"[0-9]{1,3}", text):
        raise ValueError("a device is neither a number nor cpu")
    return text if text == "cpu" else int(text)


#: GPU numbers as the driver counts them, or the CPU; "auto" stands for every GPU found.
Devices = Annotated[Literal["auto"] | tuple[int | Literal["cpu"], ...], BeforeValidator(_as_devices)]


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it does not begin with http:// or https:// and a host")
    return value


WebAddress = Annotated[Text, AfterValidator(_web_address)]


def _token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value().strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("it holds spaces or characters beyond ASCII")
    return SecretStr(token)


#: A secret that goes into HTTP headers.
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
        raise ValueError("the home folder that ~ stands for is unknown") from error


#: A path; ~ stands for the home folder.
Location = Annotated[Path, AfterValidator(_home_expanded)]


class CustomModel(Keys):
    """A model of the owner's that the Horde's reference does not list: one file, or several by their purpose."""

    model_config = ConfigDict(extra="ignore")

    name: Text = ""
    baseline: Text = ""
    filepath: Text = ""
    #: purpose (checkpoint, unet, text_encoder, text_encoder_2, vae, stage_b, stage_c) -> path
    files: dict[Text, Text] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of what it can't do without and does not say."""
        said = {"name": self.name, "baseline": self.baseline, "filepath": self.filepath or self.files}
        return tuple(name for name, value in said.items() if not value)


class MemoryMode(str, Enum):
    """How much of a device's memory the engines keep for themselves."""

    NORMAL = "normal"
    HIGH = "high"
    VERY_HIGH = "very_high"


class DeviceSettings(Keys):
    """What holds for one device only; what is not said is as for all."""

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
