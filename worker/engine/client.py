"""Prompts in one engine: graphs are queued, and each gets the images that were made for it.

A prompt that ended without all its images lost a frame: the same graph is queued again, and since everything but its
output nodes is cached, the images are back in milliseconds.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import httpx
from loguru import logger

from worker.aio import timeout, to_the_end
from worker.engine import events
from worker.engine.connection import EngineConnection
from worker.engine.error_classifier import classify_rejection
from worker.engine.graph_trace import Graph
from worker.engine.loopback import EngineAnswer, read_object
from worker.engine.prompt import Prompt
from worker.engine.stall_detector import StallWatch
from worker.errors import EngineError, EngineStalled, NodeFailed
from worker.images import RawImage

#: Seconds without an event after which a running prompt counts as stalled, for prompts without a StallWatch: loading
#: from a slow disk sends nothing for a minute or two.
SILENCE_LIMIT_S = 240.0
#: Seconds between two looks at the limit, which changes with the phase of the prompt.
LOOK_S = 5.0
#: Seconds between two deletions of ended prompts from the engine's history.
FORGET_EVERY_S = 10.0
#: Attempts to stop a running prompt, and seconds between them.
CANCEL_ATTEMPTS, CANCEL_PAUSE_S = 10, 0.2
#: Answers to a request to cancel a job: done, and those of versions without it.
CANCEL_ANSWERS = (httpx.codes.OK, httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED)
#: Longest time that a cancelled caller is held up until the engine has noticed; the job must still be reported.
GIVING_UP_S = 2.0


class EngineClient:
    """Renders prompts in one engine. Use `open` before and `close` after; safe for many prompts at once."""

    def __init__(self, url: str, token: str = "", *, silence_limit_s: float | None = None) -> None:
        self._connection = EngineConnection(
            url, token, on_event=self._dispatch, on_reconnected=self._settle_all, on_gone=self._fail_all
        )
        self._silence_limit_s = silence_limit_s
        self._prompts: dict[str, Prompt] = {}
        #: ids of cancelled prompts that may still be in the engine
        self._given_up: set[str] = set()
        #: time of the last event; one prompt runs at a time, so it counts for all that wait
        self._heard_at = 0.0
        #: the prompt of the last event, while it runs
        self._running: Prompt | None = None
        #: ids of ended prompts that are still in the engine's history
        self._over: list[str] = []
        #: work that is finished without its caller
        self._detached: set[asyncio.Task[None]] = set()
        #: until the engine says that it knows no such request
        self._cancels_jobs = True
        self.object_info: dict[str, Any] = {}
        #: of ComfyUI; "" where it does not tell
        self.version = ""

    async def open(self) -> None:
        """Connect and learn what nodes the engine has. Raises EngineDied when nobody answers."""
        await self._connection.open()
        self.object_info = await self._connection.ask("/object_info")
        system = (await self.system_stats()).get("system")
        self.version = str(system.get("comfyui_version") or "") if isinstance(system, dict) else ""

    def expect_end(self, cause: EngineError | None = None) -> None:
        """The engine ends or is about to be stopped: its silence from now on is no news. Prompts fail with `cause`."""
        self._connection.expect_end(cause)

    async def close(self) -> None:
        """Close the connection, even if the caller is cancelled; prompts that still wait fail with the reason."""
        await to_the_end(self._close())

    async def _close(self) -> None:
        self._fail_all(self._connection.hang_up())
        detached = set(self._detached)
        for task in detached:
            task.cancel()
        if detached:
            await asyncio.wait(detached)
        await self._connection.close()

    @property
    def has_node_pack(self) -> bool:
        return "HordeImageOutput" in self.object_info

    async def render(
        self,
        graph: Graph,
        outputs: Collection[str],
        *,
        expected: int = 1,
        on_progress: Callable[[events.Progress], None] = lambda _: None,
        on_memory: Callable[[events.MemoryNeed], None] = lambda _: None,
        watch: StallWatch | None = None,
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
            prompt = Prompt(graph, frozenset(outputs), expected, on_progress, watch)
            await self._queue(prompt)
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
                if prompt.memory:
                    on_memory(prompt.memory)
                return prompt.in_order()
            if not again:
                logger.bind(action="frame_lost", prompt_id=prompt.id).warning(
                    "The engine finished a prompt, but not all its images arrived; asking for them again"
                )
        raise NodeFailed("The engine finished the prompt twice without delivering its images.")

    async def put_input(self, key: str, picture: bytes) -> None:
        """Hand in an encoded picture for the `HordeImageInput` nodes with this key, which must be unique."""
        await self._connection.request("PUT", f"/horde/inputs/{key}", content=picture)

    async def drop_inputs(self, keys: Collection[str]) -> None:
        """Delete pictures from the engine's memory. Never raises: an engine that is gone has none."""

        async def drop() -> None:
            try:
                for key in keys:
                    await self._connection.request("DELETE", f"/horde/inputs/{key}")
            except EngineError as error:
                logger.debug("Could not drop pictures: {}", error)

        if keys:
            await self._see_through(drop())

    async def cancel(self, prompt_id: str) -> None:
        """Remove this prompt from the queue, or stop it if it runs. Never raises: the engine may be gone.

        ComfyUI forgets an interrupt that comes just before a prompt's first node, so it is repeated until it counts.
        """
        try:
            for _ in range(CANCEL_ATTEMPTS):
                await self._ask_to_stop(prompt_id)
                if prompt_id not in await self._ids_in_queue():
                    self._given_up.discard(prompt_id)
                    await self._forget(prompt_id)
                    return
                await asyncio.sleep(CANCEL_PAUSE_S)
        except EngineError as error:
            logger.debug("Could not cancel a prompt: {}", error)

    async def _ask_to_stop(self, prompt_id: str) -> None:
        """By the one request for it, which hits this prompt whatever begins meanwhile; older versions need two."""
        if self._cancels_jobs:
            answer = await self._connection.request("POST", f"/api/jobs/{prompt_id}/cancel", accept=CANCEL_ANSWERS)
            self._cancels_jobs = answer.status_code == httpx.codes.OK
        if not self._cancels_jobs:
            await self._connection.request("POST", "/queue", json={"delete": [prompt_id]})
            await self._connection.request("POST", "/interrupt", json={"prompt_id": prompt_id})

    async def free(self) -> None:
        """Free cached results and models before the next prompt."""
        await self._connection.request("POST", "/free", json={"unload_models": True, "free_memory": True})

    async def system_stats(self) -> dict[str, Any]:
        """ComfyUI's /system_stats: system and devices, memory in bytes."""
        return await self._connection.ask("/system_stats")

    async def paged_bytes(self) -> int | None:
        """Bytes of the card that an engine which pages weights holds in all; 0 where it pages none, None unknown."""
        told = (await self._connection.ask("/horde/memory")).get("paged")
        return told if isinstance(told, int) and told >= 0 else None

    # Prompts

    async def _queue(self, prompt: Prompt) -> None:
        await self._connection.check()
        if not self._prompts and not await self._still_busy():
            self._heard_at = time.monotonic()
        # Registered before it is sent: its first events may arrive before the answer.
        self._prompts[prompt.id] = prompt
        posting = asyncio.ensure_future(
            self._connection.request(
                "POST",
                "/prompt",
                json={"prompt": prompt.graph, "client_id": self._connection.client_id, "prompt_id": prompt.id},
                accept=(httpx.codes.OK, httpx.codes.BAD_REQUEST),
            )
        )
        try:
            response = await asyncio.shield(posting)
            # ComfyUI runs the valid outputs and reports the others, even with status 200.
            answer = await read_object(response)
            if response.status_code != httpx.codes.OK or answer.get("node_errors"):
                raise classify_rejection(answer, prompt.graph)
        except BaseException:
            self._prompts.pop(prompt.id, None)
            self._given_up.add(prompt.id)
            await self._see_through(self._withdraw(posting, prompt.id))
            raise

    async def _still_busy(self) -> bool:
        """Whether a cancelled prompt is still in the engine."""
        if self._given_up:
            self._given_up &= await self._ids_in_queue()
        return bool(self._given_up)

    async def _ids_in_queue(self) -> set[str]:
        """Ids of the prompts that run or wait in the engine."""
        return events.queued_ids(await self._connection.ask("/queue"))

    async def _see_through(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end even if the caller is cancelled; hold the caller up for a moment at most."""
        await asyncio.wait([self._detach(work)], timeout=GIVING_UP_S)

    def _detach(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)
        return task

    async def _withdraw(self, posting: asyncio.Future[EngineAnswer], prompt_id: str) -> None:
        """Cancel a prompt whose POST may be under way: the engine queues it even if nobody reads the answer."""
        await asyncio.wait([posting])
        # Retrieved, so that asyncio does not log it; the caller has its own error.
        posting.exception()
        await self.cancel(prompt_id)

    async def _wait(self, prompt: Prompt) -> None:
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
            self._detach(self._forget_over())

    @property
    def _limit_s(self) -> float:
        """Seconds without an event after which the engine counts as stalled."""
        if self._silence_limit_s is not None:
            return self._silence_limit_s
        watch = self._running.watch if self._running else None
        return watch.limit_s if watch else SILENCE_LIMIT_S

    async def _forget_over(self) -> None:
        """Delete the prompts that ended lately from the history, all at once, while nobody waits."""
        await asyncio.sleep(FORGET_EVERY_S)
        over, self._over = self._over, []
        await self._forget(*over)

    async def _forget(self, *prompt_ids: str) -> None:
        """Delete prompts from the history, which would keep requesters' texts."""
        try:
            await self._connection.request("POST", "/history", json={"delete": prompt_ids})
        except EngineError as error:
            logger.debug("Could not delete a prompt from the engine's history: {}", error)

    async def _look_after(self, prompt: Prompt) -> None:
        """Find out why no events of a prompt arrive. Raises EngineStalled if it is still in the engine."""
        # Running or waiting makes no difference: the whole engine stands still.
        if prompt.id in await self._ids_in_queue():
            raise EngineStalled(f"The engine has been silent for {self._limit_s:.0f} s in the middle of a job.")
        if not prompt.ended.done():
            # It ended, and the message was lost.
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
        prompt.receive(event)

    def _fail_all(self, error: EngineError) -> None:
        for prompt in self._prompts.values():
            prompt.fail(error)

    async def _settle_all(self) -> None:
        """After a gap: read from the history which prompts ended; their frames are requested again."""
        for prompt in list(self._prompts.values()):
            entry = (await self._connection.ask(f"/history/{prompt.id}")).get(prompt.id)
            if entry is not None and not prompt.ended.done():
                prompt.end_as_recorded(entry)
