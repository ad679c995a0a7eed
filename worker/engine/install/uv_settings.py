"""What the owner told uv: which variables it gets, what its own files say in words of these, what is left out.

uv reads `uv.toml` of the user, of the system and of the folders above; in there may be a required version, dates and
builds that would break an installation whose every package is named by version and sha256. So it reads none of them
here (UV_NO_CONFIG), and gets as variables what they say of the way to an index.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from worker.owner_path import owner_path

#: Of the owner's variables for uv those that say how to reach an index; all others could lead packages elsewhere.
KEPT = (
    "UV_ASTRAL_MIRROR_URL", "UV_AZURE_ENDPOINT_URL", "UV_CACHE_DIR", "UV_CONCURRENT_DOWNLOADS", "UV_CREDENTIALS_DIR",
    "UV_DEFAULT_INDEX", "UV_DOWNLOAD_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_GCS_ENDPOINT_URL", "UV_HTTP_",
    "UV_INDEX", "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_LINK_MODE", "UV_NATIVE_TLS", "UV_OFFLINE",
    "UV_PYTHON_INSTALL_MIRROR", "UV_REQUEST_TIMEOUT", "UV_S3_ENDPOINT_URL", "UV_SYSTEM_CERTS",
)  # fmt: skip
#: What would change which packages are installed, or from what: named to the owner when it is left out. In uv.toml
#: the same with small letters and hyphens.
LEFT_OUT = (
    "build-constraint", "build-constraint-dependencies", "constraint", "constraint-dependencies", "exclude",
    "exclude-newer", "no-binary", "no-binary-package", "no-build", "no-build-package", "no-cache", "only-binary",
    "override", "override-dependencies", "prerelease", "required-version", "resolution", "target", "torch-backend",
)  # fmt: skip
#: With symbolic links an environment would end with the cache it leads to.
LINK_MODES = frozenset({"clone", "copy", "hardlink"})
#: Another variable that an owner may set for the same, or more.
SYNONYMS = {
    "UV_DEFAULT_INDEX": ("UV_INDEX_URL",),
    "UV_INDEX": ("UV_EXTRA_INDEX_URL",),
    "UV_HTTP_TIMEOUT": ("UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT"),
    "UV_SYSTEM_CERTS": ("UV_NATIVE_TLS",),
    "SSL_CERT_FILE": ("SSL_CERT_DIR",),
    "http_proxy": ("HTTP_PROXY", "all_proxy", "ALL_PROXY"),
    "https_proxy": ("HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    "no_proxy": ("NO_PROXY",),
}
#: Keys of uv.toml with one value -> the variable.
SINGLE = {
    "cache-dir": "UV_CACHE_DIR",
    "concurrent-downloads": "UV_CONCURRENT_DOWNLOADS",
    "http-proxy": "http_proxy",
    "https-proxy": "https_proxy",
    "index-strategy": "UV_INDEX_STRATEGY",
    "index-url": "UV_DEFAULT_INDEX",
    "keyring-provider": "UV_KEYRING_PROVIDER",
    "link-mode": "UV_LINK_MODE",
    "native-tls": "UV_SYSTEM_CERTS",
    "no-index": "UV_NO_INDEX",
    "offline": "UV_OFFLINE",
    "system-certs": "UV_SYSTEM_CERTS",
}
#: Keys with a list -> the variable, and what uv puts between its entries.
LISTS = {
    "allow-insecure-host": ("UV_INSECURE_HOST", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-proxy": ("no_proxy", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
}
#: uv's own would be some hundred bytes.
FILE_MAX_BYTES = 2**20


@dataclass
class FileSettings:
    """What uv's files say: in variables, and what of them is left out, a phrase each."""

    variables: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def unless_set(found: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Of what was found only what no variable of the owner says."""
    return {
        name: value
        for name, value in found.items()
        if not any(environ.get(other) for other in (name, *SYNONYMS.get(name, ())))
    }


def kept_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The owner's variables without those for uv that would mislead it. An empty one says nothing, and stops uv."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("UV_") or (value.strip() and name.startswith(KEPT))
    }


def left_out_variables(environ: Mapping[str, str]) -> list[str]:
    """The names of variables, uv's and pip's, that ask for other packages than those that the locks name."""
    names = {name.upper().replace("-", "_") for name in LEFT_OUT}
    return sorted(
        name
        for name, value in environ.items()
        if value.strip() and name.startswith(("UV_", "PIP_")) and name.partition("_")[2] in names
    )


def config_files(environ: Mapping[str, str], start: Path) -> Iterator[Path]:
    """uv's files of settings, the least first: the system's, the user's, the nearest above `start`.

    That of a project (`[tool.uv]` in a pyproject.toml) is for that project, and not read.
    """
    if named := environ.get("UV_CONFIG_FILE"):
        yield owner_path(named)
        return
    if environ.get("UV_NO_CONFIG"):
        return
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.cwd())
    if os.name == "nt":
        yield Path(environ.get("PROGRAMDATA", r"C:\ProgramData"), "uv", "uv.toml")
        yield Path(environ.get("APPDATA") or home / "AppData" / "Roaming", "uv", "uv.toml")
    else:
        system = [Path(folder, "uv", "uv.toml") for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
        yield next((path for path in system if path.is_file()), Path("/etc/uv/uv.toml"))
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "uv", "uv.toml")
    above = (folder / "uv.toml" for folder in (start, *start.parents))
    yield from [path for path in above if path.is_file()][:1]


def from_files(files: Iterable[Path]) -> FileSettings:
    """What uv's files say of the way to an index; a file that can't be read is named, and says nothing."""
    found = FileSettings()
    for path in files:
        try:
            settings = _read(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, ImportError) as error:
            found.left_out.append(f"{path} ({_why(error)})")
            continue
        found.variables |= _in_variables(settings, path.absolute().parent)
        found.left_out += [f"{key} in {path}" for key in LEFT_OUT if key in settings]
    return found


def _read(path: Path) -> dict[str, Any]:
    """A file's settings; those of its section [pip] count more, as they do for uv."""
    with path.open("rb") as file:
        text = file.read(FILE_MAX_BYTES).decode("utf-8")
    if sys.version_info < (3, 11):
        raise ImportError
    import tomllib  # noqa: PLC0415 - Python 3.10 has none

    settings = tomllib.loads(text)
    pip = settings.pop("pip", {})
    return settings | (pip if isinstance(pip, dict) else {})


def _why(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "Python 3.10 can't read it; set variables such as UV_DEFAULT_INDEX instead"
    if isinstance(error, OSError):
        return error.strerror or "can't be read"
    return f"no TOML: {str(error).splitlines()[0]}"


def _in_variables(settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The variables that say the same; paths count from the folder of the file."""
    variables: dict[str, str] = {}
    for key, variable in SINGLE.items():
        if (value := settings.get(key)) is not None and isinstance(value, (str, int)):
            variables[variable] = str(int(value)) if isinstance(value, bool) else str(value)
    lists: dict[str, list[str]] = {}
    for entry in _entries(settings.get("index")):
        if not isinstance(entry, dict) or entry.get("explicit") or not isinstance(entry.get("url"), str):
            continue
        address = _address(entry["url"], folder)
        named = f"{entry['name']}={address}" if isinstance(entry.get("name"), str) else address
        if entry.get("format") == "flat":
            lists.setdefault("UV_FIND_LINKS", []).append(address)
        elif entry.get("default"):
            variables.setdefault("UV_DEFAULT_INDEX", named)
        else:
            lists.setdefault("UV_INDEX", []).append(named)
    for key, (variable, _) in LISTS.items():
        local = variable in {"UV_INDEX", "UV_FIND_LINKS"}
        lists.setdefault(variable, []).extend(
            _address(entry, folder) if local else entry
            for entry in _entries(settings.get(key))
            if isinstance(entry, str)
        )
    between = dict(LISTS.values())
    variables |= {variable: between[variable].join(entries) for variable, entries in lists.items() if entries}
    if variables.get("UV_LINK_MODE", "copy") not in LINK_MODES:
        del variables["UV_LINK_MODE"]
    if cache := variables.get("UV_CACHE_DIR"):
        variables["UV_CACHE_DIR"] = str(folder / owner_path(cache))
    return variables


def _entries(value: object) -> list[object]:
    """A list as it is, one text as a list of it, anything else as none."""
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _address(text: str, folder: Path) -> str:
    """An address as it is, a path as a whole one."""
    if "://" in text:
        return text
    return list_entry(folder / owner_path(text))


def list_entry(path: Path) -> str:
    """A whole path as an entry of UV_INDEX or UV_FIND_LINKS: as a URL where it has what ends an entry there."""
    return path.as_uri() if {" ", ","} & set(str(path)) else str(path)


def local_folders(variables: Mapping[str, str]) -> Iterator[Path]:
    """The folders of this machine in UV_FIND_LINKS."""
    for entry in variables.get("UV_FIND_LINKS", "").split(","):
        address = urlsplit(entry)
        if address.scheme == "file":
            yield Path(url2pathname(address.path))
        elif entry and "://" not in entry:
            yield owner_path(entry)
