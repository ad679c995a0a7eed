"""The embedded Horde on a loopback socket: in a thread of this process, or as the whole process."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.demo.horde.app import HordeApp, Latencies, create_app
from worker.demo.horde.broken import TRANSPORT
from worker.demo.horde.faults import FaultPlan
from worker.demo.horde.state import EmbeddedHorde

HOST = "127.0.0.1"
#: Connections that wait for being accepted: more than the workers of any bench.
_BACKLOG = 512
#: Idle connections stay open this long, so that a worker's pool is not cut between two polls.
_KEEP_ALIVE_S = 30
#: A server that has not started or stopped by then never will.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class RunningHorde:
    """Where the server is, and its controls."""

    #: without a path and without a slash at the end
    url: str
    state: EmbeddedHorde
    faults: FaultPlan

    @property
    def api_url(self) -> str:
        """The base of all API calls."""
        return f"{self.url}/api/v2"


@contextlib.contextmanager
def serve_in_thread(
    state: EmbeddedHorde | None = None,
    *,
    latency: Latencies | None = None,
    faults: FaultPlan | None = None,
    port: int = 0,
) -> Iterator[RunningHorde]:
    """Serves until the block ends; port 0 takes a free one. Answers from the first line of the block on."""
    state, faults = state or EmbeddedHorde(), faults or FaultPlan()
    with listen(port) as listener:
        server = HordeServer(create_app(state, latency=latency, faults=faults))
        thread = threading.Thread(target=server.run, args=([listener],), name="embedded-horde", daemon=True)
        thread.start()
        try:
            if not server.ready.wait(_PATIENCE_S):
                raise TimeoutError("the embedded Horde did not start")
            yield RunningHorde(address_of(listener), state, faults)
        finally:
            server.stop()
            thread.join(_PATIENCE_S)


def listen(port: int) -> socket.socket:
    """A listening socket on loopback.

    The protocol is named because asyncio turns off Nagle's delay (40 ms an answer) only where it is.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere this option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL that a listening socket is reached by."""
    return f"http://{HOST}:{listener.getsockname()[1]}"


class HordeServer(uvicorn.Server):
    """uvicorn that says when it is ready, and that stops without waiting for what hangs on purpose."""

    def __init__(self, app: HordeApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_BreakableProtocol,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
            )
        )
        self.ready = threading.Event()
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.release()
        await super().shutdown(sockets)

    def stop(self) -> None:
        """From any thread."""
        self.should_exit = True


class _BreakableProtocol(H11Protocol):
    """HTTP/1.1 whose requests carry their connection's transport, so that a fault can break it."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}
