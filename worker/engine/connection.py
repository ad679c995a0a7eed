"""The connection to one engine: HTTP for questions, one websocket for what it tells. Got back when it breaks.

Why an engine is gone is known best by whoever watches its process; callers get that reason and not only the symptom.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import httpx
import websocket
from loguru import logger

from worker.engine import events
from worker.engine.loopback import EngineAnswer, authorization, exchange, loopback_client, read_object
from worker.engine.websocket_reader import SocketReader, discard, open_socket
from worker.errors import EngineDied, EngineError, EngineStalled, InputRefused, NodeFailed
from worker.untrusted.text import quote

#: Longest wait for an answer to a small question; the engine's loop may be busy for a while during a model load.
HTTP_TIMEOUT_S = 30.0
#: Longest wait for requests under way when the connection is closed.
CLOSE_WAIT_S = 2.0
#: A connection breaks a moment before the end of its process is noticed.
CAUSE_WAIT_S = 1.0
#: Attempts to get the websocket back while the process lives.
RECONNECT_ATTEMPTS = 5


@dataclass(eq=False, repr=False)
class EngineConnection:
    """Use `open` before and `close` after; safe for many requests at once."""

    url: str
    token: str
    on_event: Callable[[events.Event], None]
    #: settles what happened during a gap
    on_reconnected: Callable[[], Awaitable[None]]
    #: told why there will be no more events
    on_gone: Callable[[EngineError], None]
    #: the engine sends what concerns its prompts to the client of this name
    client_id: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)

    def __post_init__(self) -> None:
        self._http = loopback_client(self.url, token=self.token, timeout_s=HTTP_TIMEOUT_S)
        self._reader: SocketReader | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Future[EngineAnswer]] = set()
        self._closing = False
        self._gone = False
        #: why the engine ended, once that is known
        self._end: asyncio.Future[EngineError] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Connect the websocket. Raises EngineDied when nobody answers."""
        loop = asyncio.get_running_loop()
        url = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        opening = loop.run_in_executor(None, open_socket, url, authorization(self.token), HTTP_TIMEOUT_S)
        try:
            opened = await asyncio.shield(opening)
        except (OSError, websocket.WebSocketException) as error:
            raise EngineDied(f"No connection to the engine: {error}.") from error
        except asyncio.CancelledError:
            # The thread can't be stopped; what it opens is closed when it comes.
            opening.add_done_callback(discard)
            raise
        self._reader = SocketReader(opened, loop, self.on_event, self._on_lost)

    def expect_end(self, cause: EngineError | None = None) -> None:
        """The engine ends or is about to be stopped: its silence from now on is no news. Requests fail with `cause`."""
        self._closing = True
        if not self._end.done():
            self._end.set_result(cause or EngineDied("The connection to the engine was closed."))

    def hang_up(self) -> EngineError:
        """Make no more requests; why, for whoever waits for events."""
        self.expect_end()
        self._gone = True
        return self._end.result()

    async def close(self) -> None:
        """Close the websocket and all HTTP connections. Takes a bounded time."""
        self.hang_up()
        if self._recovery:
            self._recovery.cancel()
            await asyncio.wait([self._recovery])
        if self._reader:
            await self._reader.stop()
        # A connection that is being made when the client closes would be open for ever. An engine that has ended
        # lets nobody wait.
        requests = set(self._requests)
        if requests:
            _, late = await asyncio.wait(requests, timeout=CLOSE_WAIT_S)
            for request in late:
                request.cancel()
            if late:
                await asyncio.wait(late)
        await self._http.aclose()

    async def request(
        self, method: str, path: str, *, accept: Collection[int] = (httpx.codes.OK,), **content: Any
    ) -> EngineAnswer:
        """One request. Raises EngineDied, EngineStalled, or NodeFailed for a status that is not in `accept`."""
        await self.check()
        asking = asyncio.ensure_future(exchange(self._http, method, path, **content))
        self._requests.add(asking)
        asking.add_done_callback(self._requests.discard)
        try:
            answer = await asking
        except httpx.TimeoutException as error:
            raise EngineStalled(f"The engine did not answer {method} {path} in {HTTP_TIMEOUT_S:.0f} s.") from error
        except httpx.TransportError as error:
            raise await self._cause(f"The engine does not answer: {error!r}.") from error
        except InputRefused as error:
            raise NodeFailed(f"The engine's answer to {method} {path} can't be read: {error.message}") from error
        if answer.status_code not in accept:
            said = quote(answer.body.decode(errors="replace"), longest=200)
            raise NodeFailed(f"The engine answered {method} {path} with {answer.status_code}: {said}")
        return answer

    async def ask(self, path: str) -> dict[str, Any]:
        """The JSON object at a path. Raises what `request` does."""
        return await read_object(await self.request("GET", path))

    async def check(self) -> None:
        """Raises the reason when the engine is gone."""
        if self._gone:
            raise await self._cause("The engine is gone.")

    async def _cause(self, symptom: str) -> EngineError:
        """Why the engine does not answer: the reason where it becomes known in a moment, else only what was seen."""
        await asyncio.wait([self._end], timeout=CAUSE_WAIT_S)
        return self._end.result() if self._end.done() else EngineDied(symptom)

    def _on_lost(self, reason: str) -> None:
        # A loss during a recovery is that recovery's own to notice.
        if not self._closing and (self._recovery is None or self._recovery.done()):
            self._recovery = asyncio.ensure_future(self._recover(reason))

    async def _recover(self, reason: str) -> None:
        """Get the websocket back; give up when the engine does not answer."""
        logger.bind(action="socket_lost").warning("The engine's websocket closed: {}", reason)
        for attempt in range(RECONNECT_ATTEMPTS):
            await asyncio.sleep(0.1 * 2**attempt if attempt else 0)
            try:
                await self.open()
                await self.on_reconnected()
            except EngineError as error:
                logger.debug("Reconnecting failed: {}", error)
            else:
                if self._reader and not self._reader.ended:
                    return
        self._gone = True
        self.on_gone(await self._cause("The engine does not answer any more."))
