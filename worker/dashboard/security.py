"""What stands before the page: whatever comes in passes here, and nothing behind it asks again who it is.

In this order: is it for a name of ours (else a page of somebody else's could have led the browser here by a name that
resolves to this machine), does it come from one of our own pages, who is it, is its body of a size, and does a form
carry what only our own page knows. On the way out every answer gets the headers that keep a browser from doing with it
what the page does not ask for.
"""

import asyncio
import hmac
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.aio import timeout
from worker.dashboard.sessions import Attempts, Session, Sessions, ip_of
from worker.errors import InputRefused
from worker.untrusted.form import read_form

#: Bytes of a request's body, and seconds in which it must have come.
MOST_BODY_BYTES, BODY_S = 64 * 1024, 10.0
#: Characters of a token that are looked at.
LONGEST_TOKEN = 1024
SIGN_IN = "/sign-in"
#: In the scope's state: a function of the connection, called when a request on it was the owner's.
VOUCH = "vouch"
#: Answered without a token, so that a probe needs none, and the page to sign in looks like one.
OPEN = frozenset({"/healthz", "/readyz", "/startupz", SIGN_IN})
OPEN_BELOW = "/static/"
#: What other workers of the owner may send with their own, lesser token.
ANNOUNCE = "/api/workers"
FORM = "application/x-www-form-urlencoded"
SAFE_METHODS = frozenset({"GET", "HEAD"})

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?")


def own_names(listed: Iterable[str] = ()) -> frozenset[str]:
    """Host names under which the page is asked for: this machine's, and those that the owner lists."""
    machine = socket.gethostname().lower()
    return frozenset({"localhost", machine, f"{machine}.local", *(name.lower() for name in listed)})


@dataclass(frozen=True)
class Guard:
    """What the gate goes by."""

    sessions: Sessions
    attempts: Attempts = field(default_factory=Attempts)
    names: frozenset[str] = field(default_factory=own_names)
    #: proxies whose word on the client counts
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    #: below which a proxy shows the page; without a slash at its end
    path: str = ""
    #: served over https by the worker itself
    secure: bool = False

    def is_own_name(self, host: str) -> bool:
        """Whether a Host header names this machine. An address is nobody's to redirect, a name may be."""
        found = _HOST.fullmatch(host)
        if not found:
            return False
        name = found["name"].lower()
        return name in self.names or ip_of(name.strip("[]")) is not None

    def is_proxy(self, address: str) -> bool:
        """Whether the owner has listed this address as a proxy's."""
        ip = ip_of(address)
        return ip is not None and any(ip in network for network in self.proxies)


@dataclass(frozen=True)
class Visit:
    """What was found out about a request. Pages read it from the scope's state."""

    #: of the client, as far as it is known
    address: str
    #: scheme and host of our own pages, as the client sees them
    origin: str
    secure: bool
    #: None: none, or a program with the token
    session: Session | None = None

    @property
    def csrf(self) -> str:
        """For the forms of this session."""
        return self.session.csrf if self.session else ""


class _Refused(Exception):
    """An answer in place of what was asked for."""

    def __init__(
        self, status: int, text: str = "", headers: dict[str, str] | None = None, response: Response | None = None
    ) -> None:
        super().__init__(text)
        self.response = response or PlainTextResponse(f"{text}\n", status, headers)


def gate(app: ASGIApp, guard: Guard) -> ASGIApp:
    """`app` behind the guard. It finds a `Visit` in `request.state.visit`."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        with_headers = _with_headers(send)
        try:
            scope = _without_prefix(scope, guard.path)
            headers = Headers(scope=scope)
            _refuse_ambiguity(headers)
            visit = _visit(scope, headers, guard)
            _refuse_strangers(scope, headers, visit)
            visit, is_owners = _identified(scope, headers, visit, guard)
            if is_owners and (vouch := scope.get("state", {}).get(VOUCH)):
                vouch()
            if scope["method"] not in SAFE_METHODS:
                body = await _body(headers, receive)
                _refuse_forgery(headers, body, visit)
                receive = _replayed(body, receive)
            scope["state"] = {**scope.get("state", {}), "visit": visit}
        except _Refused as refused:
            await refused.response(scope, receive, with_headers)
            return
        await app(scope, receive, with_headers)

    return guarded


def _without_prefix(scope: Scope, path: str) -> Scope:
    """A proxy may take the prefix away or leave it."""
    if path and (scope["path"] == path or scope["path"].startswith(f"{path}/")):
        return {**scope, "path": scope["path"].removeprefix(path) or "/", "raw_path": b""}
    return dict(scope)


def _visit(scope: Scope, headers: Headers, guard: Guard) -> Visit:
    address = str((scope.get("client") or ("",))[0])
    host, secure = _only(headers, "host"), guard.secure
    if guard.is_proxy(address):
        forwarded = [part.strip() for part in ",".join(headers.getlist("x-forwarded-for")).split(",")]
        # From the right: what stands further left may be made up by the client.
        address = next((part for part in reversed(forwarded) if part and not guard.is_proxy(part)), address)[:64]
        secure = headers.get("x-forwarded-proto", "").split(",")[-1].strip().lower() == "https"
        host = headers.get("x-forwarded-host", "").split(",")[-1].strip() or host
    if not guard.is_own_name(host):
        raise _Refused(
            421,
            "The page is not served under this host name. If it is yours, add it to dashboard_names in the settings.",
        )
    return Visit(address, f"{'https' if secure else 'http'}://{host.lower()}", secure)


def _refuse_ambiguity(headers: Headers) -> None:
    """A body of two lengths: a proxy may see its end elsewhere, and take what follows for another's request."""
    if "content-length" in headers and "transfer-encoding" in headers:
        raise _Refused(400, "The request has two lengths.", {"connection": "close"})


def _only(headers: Headers, name: str) -> str:
    values = headers.getlist(name)
    return values[0] if len(values) == 1 else ""


def _refuse_strangers(scope: Scope, headers: Headers, visit: Visit) -> None:
    """What other pages make a browser send. They may link to us; nothing else."""
    site, mode = headers.get("sec-fetch-site", ""), headers.get("sec-fetch-mode", "navigate")
    safe = scope["method"] in SAFE_METHODS
    is_link = safe and mode == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
    if site not in ("", "same-origin", "none") and not is_link:
        raise _Refused(403, "The request comes from a page of another origin.")
    origin = headers.get("origin")
    if origin is None or origin.lower() == visit.origin:
        return
    # With our Referrer-Policy browsers name no origin in forms of our own pages, and say what it is elsewhere.
    if origin == "null" and site in ("", "same-origin"):
        return
    raise _Refused(
        403,
        "The request comes from a page of another origin. Behind a reverse proxy, list it in dashboard_proxies.",
    )


def _identified(scope: Scope, headers: Headers, visit: Visit, guard: Guard) -> tuple[Visit, bool]:
    """The visit with its session, and whether it is the owner's or anybody's."""
    path = scope["path"]
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and path not in OPEN:
        verdict = try_token(guard, visit.address, token, announcing=path == ANNOUNCE)
        if verdict.right:
            return visit, True
        if verdict.wait_s:
            text = f"Too many wrong tokens. Try again in {verdict.wait_s} s."
            raise _Refused(429, text, {"retry-after": str(verdict.wait_s)})
        raise _Refused(401, "The token is wrong.", {"www-authenticate": "Bearer"})
    cookies: dict[str, str] = cookie_parser(headers.get("cookie", ""))
    session = guard.sessions.find(cookies.get(guard.sessions.cookie, ""))
    if session is not None:
        return replace(visit, session=session), True
    if path in OPEN or path.startswith(OPEN_BELOW):
        return visit, False
    if scope["method"] in SAFE_METHODS and "text/html" in headers.get("accept", ""):
        raise _Refused(401, response=_sign_in(headers, guard))
    raise _Refused(401, "The token is missing.", {"www-authenticate": "Bearer"})


def _sign_in(headers: Headers, guard: Guard) -> Response:
    if headers.get("sec-fetch-site") == "cross-site":
        # A link from elsewhere comes without our cookie; a step of our own brings it along.
        return Response('<!doctype html><meta http-equiv="refresh" content="0">', 200, media_type="text/html")
    return RedirectResponse(f"{guard.path}{SIGN_IN}", 303)


@dataclass(frozen=True)
class Verdict:
    """What became of a token that was shown. `wait_s` above 0: too many were wrong, and this one was not looked at."""

    right: bool
    wait_s: int = 0


def try_token(guard: Guard, address: str, given: str, *, announcing: bool = False) -> Verdict:
    """Look at a token from this address. With `announcing` that of other workers counts too.

    Where the token can't be guessed at all, others' mistakes never keep out who has it: a scraper with an old token
    on this machine would otherwise lock its owner out.
    """
    sessions, wait_s = guard.sessions, guard.attempts.wait_s(address)
    if wait_s and not sessions.beyond_guessing:
        return Verdict(right=False, wait_s=max(1, round(wait_s)))
    given = given.strip()[:LONGEST_TOKEN]
    if sessions.is_token(given) or (announcing and sessions.may_announce(given)):
        return Verdict(right=True)
    if wait_s:
        return Verdict(right=False, wait_s=max(1, round(wait_s)))
    guard.attempts.wrong(address)
    return Verdict(right=False)


async def _body(headers: Headers, receive: Receive) -> bytes:
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > 9 or int(announced) > MOST_BODY_BYTES:  # noqa: PLR2004 - digits
        raise _Refused(413, f"The request is larger than {MOST_BODY_BYTES} bytes.", {"connection": "close"})
    body = bytearray()
    try:
        async with timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Refused(400, "The request broke off.")
                body += message.get("body", b"")
                if len(body) > MOST_BODY_BYTES:
                    raise _Refused(413, f"The request is larger than {MOST_BODY_BYTES} bytes.", {"connection": "close"})
                if not message.get("more_body"):
                    return bytes(body)
    except (TimeoutError, asyncio.TimeoutError):
        raise _Refused(408, "The request did not come in time.", {"connection": "close"}) from None


def _refuse_forgery(headers: Headers, body: bytes, visit: Visit) -> None:
    """A form of a signed-in browser counts only if our own page has made it."""
    if visit.session is None:
        return
    if headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise _Refused(415, "Only forms of the page itself are taken.")
    try:
        given = read_form(body).get("csrf", [""])[0]
    except InputRefused as error:
        raise _Refused(400, error.message) from error
    if not hmac.compare_digest(given.encode("utf-8", "replace"), visit.session.csrf.encode()):
        raise _Refused(403, "The form is not of this session. Load the page again and repeat the step.")


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sending


def cookie(guard: Guard, visit: Visit, value: str, *, seconds: int) -> dict[str, Any]:
    """The arguments of `Response.set_cookie` for a session."""
    return {
        "key": guard.sessions.cookie,
        "value": value,
        "max_age": seconds,
        "path": guard.path or "/",
        "secure": visit.secure,
        "httponly": True,
        "samesite": "strict",
    }
