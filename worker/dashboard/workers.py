"""All workers of an owner on one page: what others tell of themselves is listed beside this one.

A worker announces itself every half minute to the page that its owner names. What it says is bounded and shown as text;
who falls silent is marked, and forgotten after an hour.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from loguru import logger
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from worker.config.dashboard_keys import is_loopback
from worker.config.schema import BridgeData
from worker.dashboard.security import ANNOUNCE
from worker.dashboard.sessions import announcing_token, ip_of
from worker.dashboard.site import Site, visit_of
from worker.errors import InputRefused
from worker.status.board import StatusBoard
from worker.status.snapshot import Phase, Tally
from worker.untrusted.json_reader import JsonBounds, read_json_object
from worker.untrusted.text import visible

#: Workers that are listed at most.
MOST_WORKERS: Final = 64
#: Seconds between two announcements, after which one counts as silent, and after which it is forgotten.
EVERY_S, SILENT_S, FORGOTTEN_S = 30.0, 100.0, 3600.0
BOUNDS: Final = JsonBounds(max_bytes=4096, max_values=40, max_depth=1)
LONGEST_NAME, LARGEST, HOURS = 100, 1e12, 24
MOST_PORT: Final = 65535
#: For one announcement, in seconds.
TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class Announced:
    """One worker's row. Moments in seconds since 1970."""

    name: str
    state: str
    busy: int = 0
    engines: int = 0
    kudos_per_hour: float | None = None
    kudos: float = 0.0
    jobs: int = 0
    faulted: int = 0
    #: of its own page; empty where others can't reach it
    url: str = ""
    heard_at: float = 0.0
    silent: bool = False
    #: this very worker
    here: bool = False


def announcement(status: StatusBoard) -> dict[str, Any]:
    """What this worker tells of itself."""
    snapshot = status.snapshot()
    day = sum((hour.total for hour in status.hours(HOURS)), Tally())
    return {
        "name": snapshot.name,
        "state": snapshot.phase.value,
        "busy": sum(slot.job is not None for slot in snapshot.slots),
        "engines": len(snapshot.slots),
        "kudos_per_hour": snapshot.session.kudos_per_hour,
        "kudos": day.kudos,
        "jobs": day.jobs,
        "faulted": day.faulted,
    }


async def announce(status: StatusBoard, settings: BridgeData, url: str) -> None:
    """Tell the page that the settings name of this worker, whose own is at `url`, every half minute; until cancelled.

    The token itself is not sent, but what is made from it.
    """
    to, token = settings.dashboard_announce_to, settings.dashboard_announce_token
    if to is None or token is None:
        return
    here = urlsplit(url)
    page = {
        # Where the page is off there is nothing to lead to, whatever its address would be.
        "port": here.port if settings.dashboard else 0,
        "scheme": here.scheme,
        "open": not is_loopback(settings.dashboard_address),
    }
    address = f"{to.rstrip('/')}{ANNOUNCE}"
    headers = {"authorization": f"Bearer {announcing_token(token.get_secret_value())}"}
    said: str | None = None
    async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers) as client:
        while True:
            why = await _once(client, address, {**announcement(status), **page})
            if why != said:
                if why:
                    logger.bind(action="not_announced").warning(
                        "The dashboard at {} does not take this worker: {}. It is tried again every {:.0f} s.",
                        to,
                        why,
                        EVERY_S,
                    )
                else:
                    logger.bind(action="announced").info("The dashboard at {} shows this worker too.", to)
                said = why
            await asyncio.sleep(EVERY_S)


async def _once(client: httpx.AsyncClient, address: str, told: dict[str, object]) -> str:
    """Why it was not taken; empty where it was. Of the answer nothing but its code is read."""
    try:
        async with client.stream("POST", address, json=told) as answer:
            code = answer.status_code
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    if code == httpx.codes.NO_CONTENT:
        return ""
    return {401: "its token is another", 421: "it is not served under this name", 409: "it lists too many"}.get(
        code, f"it answered {code}"
    )


def read_announcement(body: bytes, address: str, now: float) -> Announced:
    """What another worker tells. `address` is where it comes from. Raises InputRefused."""
    found = read_json_object(body, BOUNDS)
    name = visible(str(found.get("name", "")).strip(), longest=LONGEST_NAME)
    state = found.get("state")
    if not name or state not in {phase.value for phase in Phase}:
        raise InputRefused("The announcement has no name, or a state that is none.")
    rate = found.get("kudos_per_hour")
    return Announced(
        name=name,
        state=str(state),
        busy=int(_number(found, "busy")),
        engines=int(_number(found, "engines")),
        kudos_per_hour=None if rate is None else _number(found, "kudos_per_hour"),
        kudos=_number(found, "kudos"),
        jobs=int(_number(found, "jobs")),
        faulted=int(_number(found, "faulted")),
        url=_url(found, address),
        heard_at=now,
    )


def _number(found: dict[str, Any], key: str) -> float:
    value = found.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputRefused(f"{key} is no number.")
    if not math.isfinite(value) or not 0 <= value <= LARGEST:
        raise InputRefused(f"{key} is out of its range.")
    return float(value)


def _url(found: dict[str, Any], address: str) -> str:
    """Where its page is, if it can be reached there: at the address that it speaks from, never at one it names."""
    port, scheme, ip = found.get("port"), found.get("scheme"), ip_of(address)
    reachable = ip is not None and (found.get("open") is True or ip.is_loopback)
    # Of JSON's true, too, Python says that it is an int.
    is_port = isinstance(port, int) and not isinstance(port, bool) and 0 < port <= MOST_PORT
    if not reachable or not is_port or scheme not in {"http", "https"}:
        return ""
    return f"{scheme}://{f'[{ip}]' if ':' in str(ip) else ip}:{port}/"


@dataclass(eq=False)
class Workers:
    """Who has announced itself."""

    site: Site
    wall: Callable[[], float] = time.time
    _heard: dict[str, Announced] = field(default_factory=dict, init=False)

    def routes(self) -> list[Route]:
        """The page, and where workers announce themselves."""
        return [Route("/workers", self.show), Route(ANNOUNCE, self.hear, methods=["POST"])]

    async def show(self, request: Request) -> Response:
        """All of them, this one first."""
        told = announcement(self.site.status)
        here = Announced(**told, heard_at=self.wall(), here=True)
        return self.site.page(request, "workers", title="Workers", workers=(here, *self.others()))

    async def hear(self, request: Request) -> Response:
        try:
            told = read_announcement(await request.body(), visit_of(request).address, self.wall())
        except InputRefused as error:
            return PlainTextResponse(f"{error.message}\n", 400)
        self.others()
        if told.name not in self._heard and len(self._heard) >= MOST_WORKERS:
            return PlainTextResponse(f"{MOST_WORKERS} workers are listed already.\n", 409)
        self._heard[told.name] = told
        return Response(status_code=204)

    def others(self) -> tuple[Announced, ...]:
        """Those that were heard within an hour, by name."""
        now = self.wall()
        self._heard = {name: each for name, each in self._heard.items() if now - each.heard_at <= FORGOTTEN_S}
        return tuple(
            Announced(**{**vars(each), "silent": now - each.heard_at > SILENT_S})
            for _, each in sorted(self._heard.items())
        )
