"""What the owner told pip about this network, in uv's words.

Whoever needs a proxy's certificate, a mirror or a folder of wheels has usually told pip of it already, in a file or in
`PIP_…` variables, and uv reads neither. What is set for uv itself comes first.
"""

import configparser
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from worker.engine.install.uv_settings import list_entry, unless_set
from worker.owner_path import owner_path

#: The sections of pip's files that count for an installation, the later over the earlier.
SECTIONS = ("global", "install")
#: What pip calls it -> what uv calls it, for what is one value.
SINGLE = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE", "client-cert": "SSL_CLIENT_CERT"}
#: And for what is a list, with what uv puts between the entries.
LISTS = {
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
}
#: And for what is a number.
NUMBERS = {"timeout": "UV_HTTP_TIMEOUT", "retries": "UV_HTTP_RETRIES"}
#: What is said to pip again of what uv was told, besides the lists.
BACK = (
    ("index-url", "UV_DEFAULT_INDEX"),
    ("cert", "SSL_CERT_FILE"),
    ("timeout", "UV_HTTP_TIMEOUT"),
    ("no-index", "UV_NO_INDEX"),
)
#: An index with the name that uv knows it by.
NAMED = re.compile(r"[\w.-]+=")
TRUE = frozenset({"1", "true", "yes", "on"})


def for_uv(environ: Mapping[str, str], files: Iterable[Path] | None = None) -> dict[str, str]:
    """Variables for uv that say what pip's settings say; none that the owner has set for uv."""
    settings = _settings(environ, pip_files(environ) if files is None else files)
    found = _values(settings)
    if settings.get("no-index", "").strip().lower() in TRUE:
        found["UV_NO_INDEX"] = "1"
    if settings.get("keyring-provider", "").strip() == "subprocess":
        found["UV_KEYRING_PROVIDER"] = "subprocess"
    if "UV_INDEX" in found:
        # As pip does it: whichever index has the file. Every file has a sha256 in our locks, so none can slip one in.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return unless_set(found, environ)


def for_pip(given: Mapping[str, str]) -> dict[str, str]:
    """The variables of a pip that is to reach what uv reaches with these, and that reads no settings besides."""
    variables = {name: value for name, value in given.items() if not name.startswith(("PIP_", "UV_"))}
    for option, name in (*BACK, *((option, name) for option, (name, _) in LISTS.items())):
        if value := given.get(name, "").replace(",", " "):
            entries = (entry.partition("=")[2] if NAMED.match(entry) else entry for entry in value.split())
            variables[f"PIP_{option.upper().replace('-', '_')}"] = " ".join(entries)
    return variables | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def _values(settings: Mapping[str, str]) -> dict[str, str]:
    """What is an address, a list, a proxy, a number."""
    found: dict[str, str] = {}
    for option, variable in SINGLE.items():
        if value := settings.get(option, "").strip():
            found[variable] = value
    for option, (variable, between) in LISTS.items():
        entries = [entry for entry in settings.get(option, "").split() if _may_be_there(entry)]
        if option != "trusted-host":
            entries = [_whole(entry) for entry in entries]
        if entries:
            found[variable] = between.join(entries)
    if proxy := settings.get("proxy", "").strip():
        # In small letters, which every program reads that downloads here.
        found["http_proxy"] = found["https_proxy"] = proxy if "://" in proxy else f"http://{proxy}"
    for option, variable in NUMBERS.items():
        if (number := _number(settings.get(option, ""))) is not None:
            found[variable] = str(number)
    return found


def _number(text: str) -> int | None:
    """A whole number, which uv insists on; pip takes seconds with a fraction as well."""
    try:
        return math.ceil(float(text))
    except (ValueError, OverflowError):
        return None


def _settings(environ: Mapping[str, str], files: Iterable[Path]) -> dict[str, str]:
    """pip's options by their long names: of the files, and over them of the variables."""
    settings: dict[str, str] = {}
    for path in files:
        settings |= _read(path)
    for name, value in environ.items():
        if name.startswith("PIP_") and value.strip():
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """pip's files of settings, the least first; whether they exist is not looked at."""
    if environ.get("PIP_CONFIG_FILE") == os.devnull:
        return
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.cwd())
    if os.name == "nt":
        yield Path(environ.get("PROGRAMDATA", r"C:\ProgramData"), "pip", "pip.ini")
        yield home / "pip" / "pip.ini"
        if roaming := environ.get("APPDATA"):
            yield Path(roaming, "pip", "pip.ini")
        yield Path(sys.base_prefix, "pip.ini")
    else:
        for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
            yield Path(folder, "pip", "pip.conf")
        yield Path("/etc/pip.conf")
        yield home / ".pip" / "pip.conf"
        if sys.platform == "darwin":
            yield home / "Library" / "Application Support" / "pip" / "pip.conf"
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
        yield Path(sys.base_prefix, "pip.conf")
    if named := environ.get("PIP_CONFIG_FILE"):
        yield Path(named)


def _read(path: Path) -> dict[str, str]:
    """The options of a file; none of one that is absent or makes no sense, since pip will have said so."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, configparser.Error):
        return {}
    options: dict[str, str] = {}
    for section in SECTIONS:
        if parser.has_section(section):
            options |= {name.lower().replace("_", "-"): value for name, value in parser.items(section)}
    return options


def _may_be_there(entry: str) -> bool:
    """Whether an address may lead anywhere: uv ends at a folder that is absent, which pip passes by."""
    scheme, path = urlsplit(entry).scheme, urlsplit(entry).path
    if scheme == "file":
        return Path(url2pathname(path)).exists()
    return len(scheme) > 1 or "://" in entry or owner_path(entry).exists() or not entry.startswith(("/", "~", "."))


def _whole(entry: str) -> str:
    """A path from the root on: uv runs in the runtime's folder, and knows no ~."""
    if "://" in entry or not owner_path(entry).exists():
        return entry
    return list_entry(owner_path(entry).absolute())
