"""The environment variables that configure connections: proxies and certificates.

HTTP libraries read them when a client is created, and fail there with errors that name no variable. They are checked
once, before any connection, so that the owner reads which variable is wrong.
"""

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from worker.errors import ConfigError

#: In any spelling, `Http_Proxy` included: so Python's own libraries read them.
PROXY_VARIABLES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY")
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h", "socks")
#: As desktops such as GNOME set it for all their programs.
DESKTOP_SOCKS = "socks://"
#: Read by httpx and ssl (SSL_*), and by requests in the safety checker's process (the others).
CERTIFICATE_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: An entry of NO_PROXY with a scheme or a port; httpx cannot parse any other colon outside an IPv6 address.
_NO_PROXY_HOST = re.compile(r"(?:[a-z]+://)?[A-Za-z0-9_.*-]+(?::[0-9]{1,5})?(?:/[0-9]{1,2})?")


def check_network_variables(environment: MutableMapping[str, str]) -> None:
    """Check all variables, and rewrite usual forms that httpx does not know: `socks://` and some of NO_PROXY.

    Raises one ConfigError that names every wrong variable.
    """
    if problems := tuple(network_problems(environment)):
        raise ConfigError("\n".join(problem.message for problem in problems), remedy=problems[0].remedy)
    for name in _spellings(environment, "NO_PROXY"):
        environment[name] = _no_proxy(environment[name])
    for name in _spellings(environment, *PROXY_VARIABLES):
        if environment[name].lower().startswith(DESKTOP_SOCKS):
            environment[name] = f"socks5://{environment[name][len(DESKTOP_SOCKS) :]}"


def network_problems(environment: Mapping[str, str]) -> Iterator[ConfigError]:
    """One error for each variable that no library can use. Values are not shown: a proxy's may hold a password."""
    for name in _spellings(environment, *PROXY_VARIABLES):
        if why := _proxy_flaw(environment[name]):
            yield ConfigError(
                f"The environment variable {name} is no proxy address: {why}.",
                remedy=f"Set {name} to http://host:port or socks5://host:port, or unset it.",
            )
    for name in _spellings(environment, "NO_PROXY"):
        if not all(map(_is_exception, _entries(environment[name]))):
            yield ConfigError(
                f"The environment variable {name} has an entry that is no host, domain or address in ASCII.",
                remedy=f"Write {name} as names and addresses separated by commas, such as localhost,.lan,10.0.0.1.",
            )
    flaw_of = cache(_certificate_flaw)  # reading takes 15 ms, and where one is set all name the same file
    for name in CERTIFICATE_FILES:
        # requests accepts a folder for its own two.
        value = environment.get(name)
        if value and not (name != "SSL_CERT_FILE" and Path(value).is_dir()) and (why := flaw_of(value)):
            yield ConfigError(
                f"The environment variable {name} names {value!r}, which {why}.",
                remedy=f"Correct the path in {name}, or unset it.",
            )
    if (value := environment.get("SSL_CERT_DIR")) and not any(Path(each).is_dir() for each in value.split(os.pathsep)):
        yield ConfigError(
            f"The environment variable SSL_CERT_DIR names {value!r}, which is no folder.",
            remedy="Correct the path in SSL_CERT_DIR, or unset it.",
        )
    if (value := environment.get("SSLKEYLOGFILE")) and not _is_writable(Path(value)):
        yield ConfigError(
            f"The environment variable SSLKEYLOGFILE names {value!r}, which cannot be written.",
            remedy="Unset SSLKEYLOGFILE.",
        )


def _spellings(environment: Mapping[str, str], *names: str) -> list[str]:
    """The variables of these names that are set, whatever their letters' case."""
    return [name for name in environment if name.upper() in names]


def _proxy_flaw(value: str) -> str:
    """What is wrong with a proxy address; empty if nothing is."""
    if not value:
        return ""
    if value != value.strip() or not value.isprintable():
        return "there are spaces or control characters around it"
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return "the host or the port is not valid"
    if not _is_url(value if "://" in value else f"http://{value}"):
        return "it is no address"
    if parts.scheme not in PROXY_SCHEMES:
        return f"its scheme is not one of {', '.join(PROXY_SCHEMES)}"
    if not host or not re.fullmatch(r"[0-9A-Za-z._:%-]+", host) or port == 0:
        return "the host or the port is missing or not valid"
    if parts.query or parts.fragment:
        return "a ? or # of a password must be written as %3F or %23"
    return ""


def _entries(value: str) -> list[str]:
    # Windows writes semicolons, curl takes blanks as well; httpx would take all of it for one name.
    return [entry for entry in re.split(r"[,;\s]+", value) if entry]


def _is_exception(entry: str) -> bool:
    """Whether httpx can make something of an entry of NO_PROXY, once `_no_proxy` has rewritten it."""
    address, _, zone = entry.strip("[]").partition("%")
    try:
        ipaddress.ip_network(address, strict=False)
    except ValueError:
        if ":" in entry and not _NO_PROXY_HOST.fullmatch(entry):
            return False
        return _is_url(entry if "://" in entry else f"all://*{entry.removeprefix('*')}")
    return zone.isalnum() or "%" not in entry


def _is_url(text: str) -> bool:
    try:
        httpx.URL(text).host  # noqa: B018 - it is decoded when it is asked for
    except (httpx.InvalidURL, UnicodeError):
        return False
    return True


def _no_proxy(value: str) -> str:
    """NO_PROXY without what httpx cannot parse: brackets around IPv6 addresses, IPv6 networks, `*.` before domains."""
    plain = (entry.strip("[]") for entry in _entries(value))
    usable = (entry for entry in plain if not ("::" in entry and "/" in entry))
    return ",".join(entry.removeprefix("*") if entry.startswith("*.") else entry for entry in usable)


def _is_writable(file: Path) -> bool:
    return not file.is_dir() and os.access(file if file.exists() else file.parent, os.W_OK)


def _certificate_flaw(value: str) -> str:
    """What is wrong with a file of certificates; empty if nothing is."""
    path = Path(value)
    try:
        if path.is_dir():
            return "is a folder, not a file"
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except FileNotFoundError:
        return "does not exist"
    except ssl.SSLError:
        return "holds no certificates in PEM form"
    except (OSError, ValueError):
        return "cannot be read"
    return ""
