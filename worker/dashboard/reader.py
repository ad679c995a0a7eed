"""The reader of the status that serves it by HTTP, from before the first engine is ready until the last has ended."""

import asyncio
import importlib
import sys
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loguru import logger

from worker.config.dashboard_keys import LOOPBACK, is_loopback
from worker.config.editing import Editor
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.dashboard.whereabouts import announced, keep_session_key, link, own_token, session_key
from worker.logs import redactor

if TYPE_CHECKING:
    from worker.status.board import StatusBoard


@dataclass(eq=False)
class Dashboard:
    """Serves the status in the worker's own event loop. Without a free port the worker goes on without it."""

    live: LiveConfig
    #: the worker's folder, where its address and token are kept
    home: Path
    #: changes its settings
    editor: Editor | None = None

    async def __call__(self, status: "StatusBoard") -> None:
        settings = self.live.data
        # In a thread: the libraries take a fraction of a second to import.
        server: Any = await asyncio.to_thread(importlib.import_module, "worker.dashboard.server")
        address, port = (settings.dashboard_address, settings.dashboard_port) if settings.dashboard else (LOOPBACK, 0)
        own = settings.dashboard_token
        token = own.get_secret_value() if own else await asyncio.to_thread(own_token, self.home)
        redactor.add([token])
        try:
            listening = server.listen(address, port)
        except OSError as error:
            logger.bind(action="dashboard_off").error(
                "The dashboard can't listen at {}, so neither it nor `horde-bridge status` works: {}. Check "
                "dashboard_address and dashboard_port.",
                address,
                error.strerror or error,
            )
            return
        url = server.url_of(listening, secure=settings.dashboard_certificate is not None)
        app = server.application(
            status,
            await asyncio.to_thread(self._guard, settings, token),
            editor=self.editor,
            pages=settings.dashboard,
        )
        with announced(self.home, name=settings.dreamer_name, url=url, token=token, page=settings.dashboard):
            if settings.dashboard:
                show_link(url, link(url, settings.dashboard_path, token))
            announcing = asyncio.ensure_future(_announce(status, settings, url))
            try:
                await server.serve(
                    app,
                    listening,
                    certificate=settings.dashboard_certificate,
                    key=settings.dashboard_certificate_key,
                )
            except OSError as error:
                logger.bind(action="dashboard_off").error(
                    "The dashboard's certificate can't be used, so it is off: {}. Check dashboard_certificate and "
                    "dashboard_certificate_key.",
                    error.strerror or error,
                )
            finally:
                announcing.cancel()

    def _guard(self, settings: BridgeData, token: str) -> Any:
        security: Any = importlib.import_module("worker.dashboard.security")
        sessions: Any = importlib.import_module("worker.dashboard.sessions")
        return security.Guard(
            sessions=sessions.Sessions(token, session_key(self.home), keep=partial(keep_session_key, self.home)),
            names=security.own_names(settings.dashboard_names),
            proxies=tuple(ip_network(each, strict=False) for each in settings.dashboard_proxies),
            path=settings.dashboard_path.rstrip("/"),
            secure=settings.dashboard_certificate is not None,
        )


async def _announce(status: "StatusBoard", settings: BridgeData, url: str) -> None:
    to, token = settings.dashboard_announce_to, settings.dashboard_announce_token
    if to is None or token is None:
        return
    module: Any = importlib.import_module("worker.dashboard.workers")
    here = urlsplit(url)
    try:
        await module.announce(
            status,
            to,
            token.get_secret_value(),
            # Where the page is off there is nothing to lead to, whatever its address would be.
            port=here.port if settings.dashboard else 0,
            scheme=here.scheme,
            is_open=not is_loopback(settings.dashboard_address),
        )
    except Exception:  # the page of this worker goes on without it
        logger.exception("A defect in the worker: it is no longer announced to {}", to)


def show_link(url: str, with_token: str) -> None:
    """Print the link on the terminal; where there is none, log where the page is, without the token."""
    if sys.stderr.isatty():
        sys.stderr.write(f"Dashboard: {with_token}\n")
        sys.stderr.flush()
    else:
        logger.bind(action="dashboard").info("Dashboard: {}/ (`horde-bridge status --link` shows the link to it)", url)
