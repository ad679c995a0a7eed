"""Talk to one engine: prompts go in over HTTP, events and pixels come back over one websocket.

Each prompt has an id of ours and gets only what was made for it. A prompt that ended without all its images lost a
frame: the same graph goes in again, and since everything but its output nodes is cached, the images are back in
milliseconds.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
import websocket
from loguru import logger

from worker.aio import timeout, to_the_end
from worker.engine import events
from worker.engine.error_classifier import Failure, classify, classify_rejection
from worker.engine.graph_trace import Graph
from worker.engine.loopback import EngineAnswer, exchange, loopback_client, read_object
from worker.engine.stall_detector import Watch
from worker.engine.websocket_reader import SocketReader, discard, open_socket
from worker.errors import EngineDied, EngineError, EngineStalled, InputRefused, NodeFailed, RenderCancelled
from worker.images import RawImage
from worker.untrusted.text import quote

#: Answers to small questions; the engine's loop may be busy for a while during a model load.
HTTP_TIMEOUT_S = 30.0
#: Nothing heard of a running prompt for so long: ask whether it still runs, then call it stalled. Only for prompts
#: that nobody watches more closely (see patience.py): loading from a slow disk says nothing for a minute or two.
SILENCE_LIMIT_S = 240.0
#: How often to look whether the limit has changed with what the prompt does.
LOOK_S = 5.0
#: Prompts that ended are taken out of the engine's history so often.
FORGET_EVERY_S = 10.0
#: How often, and how far apart, a running prompt is told to stop.
CANCEL_ATTEMPTS, CANCEL_PAUSE_S = 10, 0.2
#: A caller who gives up waits no longer for the engine to notice; his time may be needed to report the job.
GIVING_UP_S = 2.0
#: A connection breaks a moment before the end of its process is noticed.
CAUSE_WAIT_S = 1.0
#: Of ComfyUI's `execution_error`, in the order of a Failure's fields.
FAILURE_FIELDS = ("exception_type", "exception_message", "node_type", "node_id")
#: Attempts to get the websocket back while the process lives.
RECONNECT_ATTEMPTS = 5


@dataclass(frozen=True)
class Progress:
    """How far a prompt is: the node that works, its steps done of steps in all (0 of 0: unknown)."""

    node_id: str
    value: float
    maximum: float


@dataclass
class _Prompt:
    """A prompt in the engine."""

    id: str
    graph: Graph
    outputs: frozenset[str]
    on_progress: Callable[[Progress], None] | None
    ended: asyncio.Future[None]
    #: images per output node where the engine does not tell
    expected: int
    watch: Watch | None = None
    memory: events.MemoryNeed | None = None
    images: dict[str, dict[int, RawImage]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    failure: EngineError | None = None

    def add(self, event: events.ImageMade) -> None:
        images = self.images.setdefault(event.node_id, {})
        images[event.index if event.index >= 0 else len(images)] = event.image
        self.counts[event.node_id] = event.count or self.expected
        self.memory = event.memory or self.memory

    @property
    def complete(self) -> bool:
        return all(node in self.counts and len(self.images[node]) >= self.counts[node] for node in self.outputs)

    def in_order(self) -> list[RawImage]:
        return [self.images[node][index] for node in sorted(self.outputs) for index in sorted(self.images[node])]


class EngineClient:
    """One connection to one engine. Use `open` before and `close` after; safe for many prompts at once."""

    def __init__(self, url: str, token: str = "", *, silence_limit_s: float | None = None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client_id = uuid.uuid4().hex
        self._silence_limit_s = silence_limit_s
        self._http = loopback_client(url, token=token, timeout_s=HTTP_TIMEOUT_S)
        self._prompts: dict[str, _Prompt] = {}
        #: prompts that were told to stop and may not have heard it
        self._given_up: set[str] = set()
        #: last sign of life since there is something to do; one prompt runs at a time, so it speaks for all
        self._heard_at = 0.0
        #: the prompt that spoke last, while it runs
        self._running: _Prompt | None = None
        self._reader: SocketReader | None = None
        self._lost: asyncio.Task[None] | None = None
        #: prompts that ended and are in the engine's history still
        self._over: list[str] = []
        #: requests under way
        self._asking: set[asyncio.Future[EngineAnswer]] = set()
        #: what is seen through without its caller
        self._aside: set[asyncio.Task[None]] = set()
        self._closing = False
        self._gone = False
        #: why the engine ended, once its slot knows
        self._end: asyncio.Future[EngineError] = asyncio.get_running_loop().create_future()
        self.object_info: dict[str, Any] = {}

    async def open(self) -> None:
        """Connect and learn what nodes the engine has. Raises EngineDied when nobody answers."""
        await self._connect()
        self.object_info = await self._ask("/object_info")

    def expect_end(self, cause: EngineError | None = None) -> None:
        """The engine ends or is about to be stopped: its silence from now on is no news. Prompts fail with `cause`."""
        self._closing = True
        if not self._end.done():
            self._end.set_result(cause or EngineDied("The connection to the engine was closed."))

    async def close(self) -> None:
        """Hang up, even if the caller is cancelled meanwhile; prompts that still wait get EngineDied."""
        await to_the_end(self._close())

    async def _close(self) -> None:
        self.expect_end()
        self._gone = True
        self._fail_all(self._end.result())
        unfinished = [*self._aside, *([self._lost] if self._lost else [])]
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)
        if self._reader:
            await self._reader.stop()
        # A connection that is being made when the client closes would be open for ever. An engine that has ended
        # lets nobody wait.
        asking = set(self._asking)
        if asking:
            _, late = await asyncio.wait(asking, timeout=GIVING_UP_S)
            for request in late:
                request.cancel()
            if late:
                await asyncio.wait(late)
        await self._http.aclose()

    @property
    def has_node_pack(self) -> bool:
        return "HordeImageOutput" in self.object_info

    @property
    def outstanding(self) -> int:
        """Prompts queued or running for this client."""
        return len(self._prompts)

    async def render(
        self,
        graph: Graph,
        outputs: Collection[str],
        *,
        expected: int = 1,
        on_progress: Callable[[Progress], None] | None = None,
        on_memory: Callable[[events.MemoryNeed], None] | None = None,
        watch: Watch | None = None,
    ) -> list[RawImage]:
        """Queue a graph and wait for the images of its output nodes, in the order of nodes and batch.

        `expected` images per output node count as complete on an engine that does not tell the size of a batch.
        `watch` says how long the prompt may stand still. `on_memory` is told once what a prompt that succeeded took of
        the card, where the engine tells.

        Cancelling the caller cancels exactly this prompt. Raises an EngineError: GraphRejected for a graph that
        ComfyUI does not accept, RenderCancelled when it was interrupted from outside, what error_classifier makes of
        a node's exception, EngineStalled after a long silence, EngineDied when the engine is gone.
        """
        for again in (False, True):
            prompt = await self._queue(graph, outputs, expected, on_progress, watch)
            try:
                await self._wait(prompt)
            except asyncio.CancelledError:
                self._given_up.add(prompt.id)
                await self._see_through(self.cancel(prompt.id))
                raise
            finally:
                self._prompts.pop(prompt.id, None)
            if prompt.failure:
                raise prompt.failure
            if prompt.complete:
                if watch:
                    watch.ended_well()
                if prompt.memory and on_memory:
                    on_memory(prompt.memory)
                return prompt.in_order()
            if not again:
                logger.bind(action="frame_lost", prompt_id=prompt.id).warning(
                    "The engine finished a prompt, but not all its images arrived; asking for them again"
                )
        raise NodeFailed("The engine finished the prompt twice without delivering its images.")

    async def put_input(self, key: str, picture: bytes) -> None:
        """Hand in an encoded picture for `HordeImageInput` nodes with this key, which no other picture has."""
        await self._request("PUT", f"/horde/inputs/{key}", content=picture)

    async def drop_inputs(self, keys: Collection[str]) -> None:
        """Forget pictures. Never raises: an engine that is gone has forgotten them."""

        async def drop() -> None:
            try:
                for key in keys:
                    await self._request("DELETE", f"/horde/inputs/{key}")
            except EngineError as error:
                logger.debug("Could not drop pictures: {}", error)

        if keys:
            await self._see_through(drop())

    async def cancel(self, prompt_id: str) -> None:
        """Take exactly this prompt out of the queue or stop it if it runs. Never raises: the engine may be gone.

        ComfyUI forgets an interrupt that comes just before a prompt's first node, so it is repeated until it counts.
        """
        try:
            for _ in range(CANCEL_ATTEMPTS):
                await self._request("POST", "/queue", json={"delete": [prompt_id]})
                await self._request("POST", "/interrupt", json={"prompt_id": prompt_id})
                queue = await self._ask("/queue")
                if all(prompt_id != item[1] for item in queue["queue_running"] + queue["queue_pending"]):
                    self._given_up.discard(prompt_id)
                    await self._forget(prompt_id)
                    return
                await asyncio.sleep(CANCEL_PAUSE_S)
        except EngineError as error:
            logger.debug("Could not cancel a prompt: {}", error)

    async def free(self, *, unload_models: bool = True) -> None:
        """Let go of cached results, and of models if wished, before the next prompt."""
        await self._request("POST", "/free", json={"unload_models": unload_models, "free_memory": True})

    async def system_stats(self) -> dict[str, Any]:
        """ComfyUI's /system_stats: system and devices, memory in bytes."""
        return await self._ask("/system_stats")

    # Prompts

    async def _queue(
        self,
        graph: Graph,
        outputs: Collection[str],
        expected: int,
        on_progress: Callable[[Progress], None] | None,
        watch: Watch | None,
    ) -> _Prompt:
        if self._gone:
            raise await self._gone_because("The engine is gone.")
        if not self._prompts and not await self._still_busy():
            self._heard_at = time.monotonic()
        ended = asyncio.get_running_loop().create_future()
        # With its hyphens: from June 2026 on ComfyUI refuses any other spelling.
        prompt = _Prompt(str(uuid.uuid4()), graph, frozenset(outputs), on_progress, ended, expected, watch)
        # Known before it is sent: its first events may overtake the answer.
        self._prompts[prompt.id] = prompt
        posting = asyncio.ensure_future(
            self._request(
                "POST",
                "/prompt",
                json={"prompt": graph, "client_id": self._client_id, "prompt_id": prompt.id},
                accept=(httpx.codes.OK, httpx.codes.BAD_REQUEST),
            )
        )
        try:
            response = await asyncio.shield(posting)
            # ComfyUI runs the outputs that are valid and reports the others: an answer of 200 may be half a no.
            answer = await read_object(response)
            if response.status_code != httpx.codes.OK or answer.get("node_errors"):
                raise classify_rejection(answer, graph)
        except BaseException:
            self._prompts.pop(prompt.id, None)
            self._given_up.add(prompt.id)
            await self._see_through(self._withdraw(posting, prompt.id))
            raise
        return prompt

    async def _still_busy(self) -> bool:
        """Whether a prompt that was given up is in the engine even now."""
        if self._given_up:
            queue = await self._ask("/queue")
            self._given_up &= {item[1] for item in queue["queue_running"] + queue["queue_pending"]}
        return bool(self._given_up)

    async def _see_through(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something whatever becomes of the caller, who is held up for a moment at most."""
        await asyncio.wait([self._set_aside(work)], timeout=GIVING_UP_S)

    def _set_aside(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)
        return task

    async def _withdraw(self, posting: asyncio.Future[EngineAnswer], prompt_id: str) -> None:
        """Cancel a prompt that may still be on its way in: the engine queues it even if nobody hears the answer."""
        await asyncio.wait([posting])
        # Read, so that it is no news for the log; the caller has an error of its own.
        posting.exception()
        await self.cancel(prompt_id)

    async def _wait(self, prompt: _Prompt) -> None:
        while not prompt.ended.done():
            silence = time.monotonic() - self._heard_at
            try:
                async with timeout(min(max(self._limit_s - silence, 0.01), LOOK_S)):
                    await asyncio.shield(prompt.ended)
            except TimeoutError:
                if prompt.ended.done() or time.monotonic() - self._heard_at < self._limit_s:
                    continue
                await self._look_after(prompt)
        if prompt.ended.exception():
            prompt.ended.result()
        self._over.append(prompt.id)
        if len(self._over) == 1:
            self._set_aside(self._forget_over())

    @property
    def _limit_s(self) -> float:
        """Seconds of silence that are nothing to worry about now."""
        if self._silence_limit_s is not None:
            return self._silence_limit_s
        watch = self._running.watch if self._running else None
        return watch.limit_s if watch else SILENCE_LIMIT_S

    async def _forget_over(self) -> None:
        """Forget the prompts that ended lately, all at once, while nobody waits."""
        await asyncio.sleep(FORGET_EVERY_S)
        over, self._over = self._over, []
        await self._forget(*over)

    async def _forget(self, *prompt_ids: str) -> None:
        """The history keeps whole prompts; they are the requester's words and nobody reads them."""
        try:
            await self._request("POST", "/history", json={"delete": prompt_ids})
        except EngineError as error:
            logger.debug("Could not delete a prompt from the engine's history: {}", error)

    async def _look_after(self, prompt: _Prompt) -> None:
        """Decide what the silence around a prompt means."""
        queue = await self._ask("/queue")
        # Whether it runs or waits makes no difference: nothing in this engine has moved for so long.
        if any(prompt.id == item[1] for item in queue["queue_running"] + queue["queue_pending"]):
            raise EngineStalled(f"The engine has been silent for {self._limit_s:.0f} s in the middle of a job.")
        if not prompt.ended.done():
            # It ended and the message got lost.
            prompt.ended.set_result(None)

    # Events

    def _dispatch(self, event: events.Event) -> None:
        prompt = self._prompts.get(event.prompt_id)
        self._heard_at = time.monotonic()
        if isinstance(event, events.Finished):
            self._given_up.discard(event.prompt_id)
        self._running = prompt
        if prompt is None or prompt.ended.done():
            return
        if prompt.watch:
            steps = (event.value, event.maximum) if isinstance(event, events.Progress) else (0, 0)
            prompt.watch.moved(self._heard_at, done=steps[0], total=steps[1])
        if isinstance(event, events.Finished):
            self._running = None
        self._tell(prompt, event)

    @staticmethod
    def _tell(prompt: _Prompt, event: events.Event) -> None:
        match event:
            case events.Started() if prompt.on_progress:
                prompt.on_progress(Progress("", 0, 0))
            case events.Progress(_, node_id, value, maximum):
                if prompt.on_progress and node_id not in prompt.outputs:
                    prompt.on_progress(Progress(node_id, value, maximum))
            case events.ImageMade(_, node_id) if node_id in prompt.outputs:
                prompt.add(event)
            case events.Failed(_, node_id, node_type, exception_type, message):
                prompt.failure = classify(Failure(exception_type, message, node_type, node_id), prompt.graph)
            case events.Interrupted():
                prompt.failure = RenderCancelled("The engine was told to stop this job.")
            case events.Finished():
                prompt.ended.set_result(None)

    def _fail_all(self, error: EngineError) -> None:
        for prompt in self._prompts.values():
            if not prompt.ended.done():
                prompt.ended.set_exception(error)
                # Nobody may be waiting any more; that is no news for the log.
                prompt.ended.exception()

    # Connection

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        url = f"{self._url.replace('http', 'ws', 1)}/ws?clientId={self._client_id}"
        opening = loop.run_in_executor(None, open_socket, url, self._headers, HTTP_TIMEOUT_S)
        try:
            socket = await asyncio.shield(opening)
        except (OSError, websocket.WebSocketException) as error:
            raise EngineDied(f"No connection to the engine: {error}.") from error
        except asyncio.CancelledError:
            # The thread can't be stopped; what it opens is closed when it comes.
            opening.add_done_callback(discard)
            raise
        self._reader = SocketReader(socket, loop, self._dispatch, self._on_lost)
        self._reader.start()

    def _on_lost(self, reason: str) -> None:
        # A loss during a recovery is that recovery's own to notice.
        if not self._closing and (self._lost is None or self._lost.done()):
            self._lost = asyncio.ensure_future(self._recover(reason))

    async def _recover(self, reason: str) -> None:
        """Get the websocket back and settle what happened meanwhile; give up when the engine does not answer."""
        logger.bind(action="socket_lost").warning("The engine's websocket closed: {}", reason)
        for attempt in range(RECONNECT_ATTEMPTS):
            await asyncio.sleep(0.1 * 2**attempt if attempt else 0)
            try:
                await self._connect()
                for prompt in list(self._prompts.values()):
                    await self._settle(prompt)
            except EngineError as error:
                logger.debug("Reconnecting failed: {}", error)
            else:
                if self._reader and self._reader.reads:
                    return
        self._gone = True
        self._fail_all(await self._gone_because("The engine does not answer any more."))

    async def _settle(self, prompt: _Prompt) -> None:
        """After a gap: a prompt that ended meanwhile gets its end from the history; its frames are asked for again."""
        history = await self._ask(f"/history/{prompt.id}")
        if not prompt.ended.done() and prompt.id in history:
            for kind, data in history[prompt.id].get("status", {}).get("messages", []):
                if kind == "execution_error":
                    told = (str(data.get(name, "")) for name in FAILURE_FIELDS)
                    prompt.failure = classify(Failure(*told), prompt.graph)
                elif kind == "execution_interrupted":
                    prompt.failure = RenderCancelled("The engine was told to stop this job.")
            prompt.ended.set_result(None)

    async def _gone_because(self, symptom: str) -> EngineError:
        """Why the engine does not answer: the cause where it becomes known in a moment, else only what was seen."""
        await asyncio.wait([self._end], timeout=CAUSE_WAIT_S)
        return self._end.result() if self._end.done() else EngineDied(symptom)

    async def _request(
        self, method: str, path: str, *, accept: Collection[int] = (httpx.codes.OK,), **content: Any
    ) -> EngineAnswer:
        if self._gone:
            raise await self._gone_because("The connection to the engine was closed.")
        asking = asyncio.ensure_future(exchange(self._http, method, path, **content))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            response = await asking
        except httpx.TimeoutException as error:
            raise EngineStalled(f"The engine did not answer {method} {path} in {HTTP_TIMEOUT_S:.0f} s.") from error
        except httpx.TransportError as error:
            raise await self._gone_because(f"The engine does not answer: {error!r}.") from error
        except InputRefused as error:
            raise NodeFailed(f"The engine's answer to {method} {path} can't be read: {error.message}") from error
        if response.status_code not in accept:
            said = quote(response.body.decode(errors="replace"), longest=200)
            raise NodeFailed(f"The engine answered {method} {path} with {response.status_code}: {said}")
        return response

    async def _ask(self, path: str) -> dict[str, Any]:
        return await read_object(await self._request("GET", path))
