"""The HTTP server inside the worker's event loop. Imported when it is started: its libraries take a while."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import uvicorn
from loguru import logger
from starlette.applications import Starlette
from starlette.types import ASGIApp

from worker.aio import meanwhile, to_the_end
from worker.config.dashboard_keys import LOOPBACK
from worker.config.editing import Editor
from worker.config.schema import BridgeData
from worker.dashboard import actions, api, metrics, workers
from worker.dashboard.connections import BoundedConnection
from worker.dashboard.pages import Pages
from worker.dashboard.security import Guard, gate, own_names
from worker.dashboard.sessions import Sessions
from worker.dashboard.settings_page import SettingsPage
from worker.dashboard.sign_in import SignIn
from worker.dashboard.site import Site
from worker.dashboard.whereabouts import announced, keep_session_key, link, own_token, session_key
from worker.logs import redactor
from worker.status.board import StatusBoard

#: Ports tried after the one in the settings.
MORE_PORTS = 20
#: Seconds for open requests when the server ends.
GRACE_S = 1
#: Seconds after which an idle connection is closed, and connections that may wait to be taken.
KEEP_ALIVE_S, BACKLOG = 20, 64
#: Bytes of a request's head.
MOST_HEAD_BYTES = 16 * 1024


async def run(status: StatusBoard, settings: BridgeData, home: Path, editor: Editor | None) -> None:
    """Serve the status as the settings say, until cancelled; see `worker.dashboard.reader`."""
    address, port = (settings.dashboard_address, settings.dashboard_port) if settings.dashboard else (LOOPBACK, 0)
    own = settings.dashboard_token
    token = own.get_secret_value() if own else await asyncio.to_thread(own_token, home)
    redactor.add([token])
    try:
        listening = listen(address, port)
    except OSError as error:
        logger.bind(action="dashboard_off").error(
            "The dashboard can't listen at {}, so neither it nor `horde-bridge status` works: {}. Check "
            "dashboard_address and dashboard_port.",
            address,
            error.strerror or error,
        )
        return
    certificate, key = settings.dashboard_certificate, settings.dashboard_certificate_key
    url = url_of(listening, secure=certificate is not None)
    guard = Guard(
        sessions=Sessions(token, await asyncio.to_thread(session_key, home), keep=partial(keep_session_key, home)),
        names=own_names(settings.dashboard_names),
        proxies=tuple(ip_network(each, strict=False) for each in settings.dashboard_proxies),
        path=settings.dashboard_path.rstrip("/"),
        secure=certificate is not None,
    )
    app = application(status, guard, editor=editor, pages=settings.dashboard)
    with announced(home, name=settings.dreamer_name, url=url, token=token, page=settings.dashboard):
        if settings.dashboard:
            show_link(url, link(url, settings.dashboard_path, token))
        try:
            async with meanwhile(_announce(status, settings, url)):
                await serve(app, listening, certificate=certificate, key=key)
        except OSError as error:
            logger.bind(action="dashboard_off").error(
                "The dashboard's certificate can't be used, so it is off: {}. Check dashboard_certificate and "
                "dashboard_certificate_key.",
                error.strerror or error,
            )


async def _announce(status: StatusBoard, settings: BridgeData, url: str) -> None:
    try:
        await workers.announce(status, settings, url)
    except Exception:  # the page of this worker goes on without it
        logger.exception("A defect in the worker: it is no longer announced to {}", settings.dashboard_announce_to)


def show_link(url: str, with_token: str) -> None:
    """Print the link on the terminal; where there is none, log where the page is, without the token."""
    if sys.stderr.isatty():
        sys.stderr.write(f"Dashboard: {with_token}\n")
        sys.stderr.flush()
    else:
        logger.bind(action="dashboard").info("Dashboard: {}/ (`horde-bridge status --link` shows the link to it)", url)


def application(status: StatusBoard, guard: Guard, *, editor: Editor | None = None, pages: bool = True) -> ASGIApp:
    """Everything that is served: settings to change with an `editor`, pages where they are wanted."""
    routes = [*api.probes(status), *metrics.routes(status), *api.routes(status)]
    missing: dict[Any, Any] = {}
    if pages:
        site = Site(status, guard.path)
        routes += [*Pages(site, guard).routes(), *SignIn(site, guard).routes(), *actions.routes(site)]
        routes += workers.Workers(site).routes()
        routes += SettingsPage(site, editor).routes() if editor else []
        missing = {404: site.missing, 405: site.missing}
    return gate(Starlette(routes=routes, exception_handlers=missing), guard)


class _Server(uvicorn.Server):
    """Leaves the signals to the worker, and sleeps while nobody asks."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.ended.wait()


async def serve(
    app: ASGIApp, listening: socket.socket, *, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Serve at this socket until cancelled; it is closed then. With a certificate by https.

    Raises OSError for a certificate that can't be used.
    """
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError:
        listening.close()
        raise
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve([listening]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        server.ended.set()
        with contextlib.suppress(Exception):
            await to_the_end(_ended(serving))
        raise
    finally:
        listening.close()


async def _ended(serving: "asyncio.Future[None]") -> None:
    _, late = await asyncio.wait([serving], timeout=GRACE_S + 2)
    if late:
        serving.cancel()


def listen(address: str, port: int) -> socket.socket:
    """A listening socket at this port, or at one of the next if it is taken, or at any. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    ports = [*range(port, min(port + MORE_PORTS, 65_536))] if port else []
    for wanted in [*ports, 0]:
        # Where the protocol is not named, asyncio leaves Nagle's delay on: 40 ms for each answer on an open connection.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if sys.platform != "win32":  # there it would let two programs share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address, wanted))
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            if not wanted:
                raise
            logger.debug("Port {} of {} is taken: {}", wanted, address, error)
        else:
            listening.setblocking(False)
            return listening
    raise AssertionError("port 0 is bound or raises")


def url_of(listening: socket.socket, *, secure: bool = False) -> str:
    """Where this machine reaches it."""
    host, port = listening.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{shown}:{port}"
