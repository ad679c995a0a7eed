"""Keys for the dashboard: the page that shows the running worker, and what guards it."""

import ipaddress
from typing import Annotated, ClassVar

from pydantic import AfterValidator, SecretStr

from worker.config.key_types import Effect, KeyGroup, Location, Text, TextList, Token, WebAddress, key

#: Characters of an owner's token at least: a shorter one could be guessed through the network.
SHORTEST_TOKEN = 16
#: Different ones among them at least: random digits nearly always have more, and `aaaa…` or `1212…` is tried first.
LEAST_DIFFERENT = 6
#: The addresses that only this machine reaches.
LOOPBACK = "127.0.0.1"


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens at this IP address."""
    return ipaddress.ip_address(address).is_loopback


def _listening_address(value: str) -> str:
    if value.lower() == "localhost":
        return LOOPBACK
    try:
        return str(ipaddress.ip_address(value.strip("[]")))
    except ValueError:
        raise ValueError("it is no IP address") from None


def _hard_to_guess(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if len(token) < SHORTEST_TOKEN:
        raise ValueError(f"it has {len(token)} characters, the least is {SHORTEST_TOKEN}")
    if (different := len({*token})) < LEAST_DIFFERENT:
        raise ValueError(
            f"it has {different} different character{'' if different == 1 else 's'}, the least is {LEAST_DIFFERENT}; "
            "`openssl rand -hex 24` makes a good one"
        )
    return value


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError("an entry is no IP address and no network") from None
    return values


def _base_path(value: str) -> str:
    path = value.strip("/")
    if any(part in ("", ".", "..") for part in path.split("/")) and path:
        raise ValueError("it is no plain path")
    if not all(letter.isalnum() or letter in "/-_.~" for letter in path) or not path.isascii():
        raise ValueError("it contains other characters than letters, digits, / - _ . and ~")
    return f"/{path}"


_DashboardToken = Annotated[Token, AfterValidator(_hard_to_guess)]
_WHAT_TOKEN = f"at least {SHORTEST_TOKEN} characters without spaces, {LEAST_DIFFERENT} of them different, or nothing"


class DashboardKeys(KeyGroup):
    TITLE: ClassVar[str] = "The dashboard"

    dashboard: bool = key(
        True,
        Effect.RESTART,
        "Serves a web page on this machine that shows what the worker does and earns, and lets you steer it. The "
        "worker prints its link when it starts.",
    )
    dashboard_address: Annotated[Text, AfterValidator(_listening_address)] = key(
        LOOPBACK,
        Effect.RESTART,
        "The IP address that the page listens at. Any other than 127.0.0.1 lets other machines reach it, and needs a "
        "dashboard_token.",
        allowed="an IP address: 127.0.0.1 for this machine alone, 0.0.0.0 for every network",
    )
    dashboard_port: int = key(
        7861,
        Effect.RESTART,
        "The port of the page; 0 is any that is free. If it is taken, one of the next is used.",
        least=0,
        most=65535,
    )
    dashboard_token: _DashboardToken | None = key(
        None,
        Effect.RESTART,
        "The secret that opens the page. Without one, the worker makes its own and keeps it in its folder.",
        allowed=_WHAT_TOKEN,
    )
    dashboard_names: TextList = key(
        (),
        Effect.RESTART,
        "Host names under which you open the page, besides localhost, IP addresses and this machine's name: that of "
        "your reverse proxy, for instance. Requests for other names are refused.",
        allowed="a list of host names",
    )
    dashboard_proxies: Annotated[TextList, AfterValidator(_networks)] = key(
        (),
        Effect.RESTART,
        "Addresses of reverse proxies before the page. What they say in X-Forwarded-For and X-Forwarded-Proto is "
        "believed; nobody else's is.",
        allowed="a list of IP addresses or networks",
    )
    dashboard_path: Annotated[Text, AfterValidator(_base_path)] = key(
        "/", Effect.RESTART, "The path below which a reverse proxy shows the page, such as /worker.", allowed="a path"
    )
    dashboard_certificate: Location | None = key(
        None, Effect.RESTART, "A file with a certificate (PEM), with which the page is served over https."
    )
    dashboard_certificate_key: Location | None = key(
        None, Effect.RESTART, "The file with the certificate's private key, if it is not in the same one."
    )
    dashboard_shows_jobs: bool = key(
        False,
        Effect.AT_ONCE,
        "Shows the prompts of jobs and small pictures of their results on the page. They are other people's, often "
        "not for every eye, and kept in memory only.",
    )
    dashboard_announce_to: WebAddress | None = key(
        None,
        Effect.RESTART,
        "Address of another worker's page that is to show this worker too, such as http://192.168.1.5:7861.",
        allowed="an http:// or https:// address, or nothing",
    )
    dashboard_announce_token: _DashboardToken | None = key(
        None, Effect.RESTART, "The dashboard_token of that other worker.", allowed=_WHAT_TOKEN
    )
