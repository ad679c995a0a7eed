"""The reader of the status that serves it by HTTP, from before the first engine is ready until the last has ended."""

import asyncio
import importlib
from pathlib import Path
from typing import Any

from loguru import logger

from worker.config.dashboard_keys import LOOPBACK
from worker.config.live import LiveConfig
from worker.dashboard.whereabouts import announced, own_token
from worker.status.board import StatusBoard


class Dashboard:
    """Serves the status in the worker's own event loop. Without a free port the worker goes on without it."""

    def __init__(self, live: LiveConfig, home: Path) -> None:
        """`home`: the worker's folder, where its address and token are kept."""
        self._live = live
        self._home = home

    async def __call__(self, status: StatusBoard) -> None:
        settings = self._live.data
        # In a thread: the libraries take a fraction of a second to import.
        server: Any = await asyncio.to_thread(importlib.import_module, "worker.dashboard.server")
        address, port = (settings.dashboard_address, settings.dashboard_port) if settings.dashboard else (LOOPBACK, 0)
        own = settings.dashboard_token
        token = own.get_secret_value() if own else await asyncio.to_thread(own_token, self._home)
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
        url = server.url_of(listening)
        with announced(self._home, name=settings.dreamer_name, url=url, token=token):
            await server.serve(server.application(status, token), listening)
