"""Runs prompts one after another and tells their clients what ComfyUI would tell, in its order.

Nothing is computed: samplers sleep, outputs paint. The results of the last prompt's nodes count as cached, as with
ComfyUI's classic cache, so that an equal graph runs its output nodes only.
"""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loguru import logger

from worker.aio import timeout
from worker.demo.engine.graph import SENDERS, Size, Workflow
from worker.demo.engine.outbox import Outbox, paint, png_frame, raw_frame
from worker.demo.engine.script import JOB_FAULTS, NODE_FAULTS, Fault, FaultKind, claim_fault, read_script

#: Bytes a damaged frame is short of.
DAMAGE_BYTES = 7
#: Finished prompts remembered.
HISTORY_LIMIT = 1000

#: What the real engine says in these cases: the exception's class and text.
EXCEPTIONS = {
    FaultKind.OUT_OF_MEMORY: (
        "torch.OutOfMemoryError",
        "CUDA out of memory. Tried to allocate 2.00 GiB.\nThis error means you ran out of memory on your GPU.",
    ),
    FaultKind.DEVICE_LOST: (
        "torch.AcceleratorError",
        "CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA` for more.",
    ),
    FaultKind.MODEL_BROKEN: (
        "safetensors_rust.SafetensorError",
        "Error while deserializing header: incomplete metadata, file not fully covered",
    ),
    FaultKind.LORA_BROKEN: (
        "safetensors_rust.SafetensorError",
        "Error while deserializing header: invalid JSON in header: unknown variant `NOPE`",
    ),
    FaultKind.LORA_MISMATCH: ("horde_nodes_pack.loras.LoraChangesNothing", "none of its 4 keys matches a weight"),
    FaultKind.TEXT_FAILURE: ("IndexError", "list index out of range"),
    FaultKind.NOT_FINITE: ("horde_nodes_pack.output.ImageNotFinite", "the images hold values that are no numbers"),
    FaultKind.NODE_FAILURE: (
        "RuntimeError",
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    ),
}


@dataclass(eq=False)
class Prompt:
    """A graph in the queue, and what was said about it so far."""

    number: float
    id: str
    client_id: str
    workflow: Workflow
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    fault: Fault | None = None
    #: bytes that sampling took and those of the card, once that was measured
    memory: dict[str, int] | None = None
    #: progress by node, as in `progress_state`
    progress: dict[str, dict[str, Any]] = field(default_factory=dict)

    def listed(self) -> list[Any]:
        """The prompt as /queue and /history show it."""
        return [self.number, self.id, self.workflow.nodes, {"client_id": self.client_id}, self.workflow.outputs]


class InterruptedPrompt(Exception):
    """Somebody asked for the running prompt to stop."""


class NodeError(Exception):
    """A node raises `exception_type` with a text."""

    def __init__(self, exception_type: str, text: str) -> None:
        super().__init__(text)
        self.exception_type = exception_type


class Executor:
    """The queue and the one prompt that runs. `run` is its life."""

    def __init__(
        self,
        outbox: Outbox,
        script: Path | None,
        pictures: Mapping[str, Size | None],
        *,
        keeps_results: bool = False,
    ) -> None:
        """`keeps_results`: those of all earlier prompts, not of the last alone."""
        self.pending: deque[Prompt] = deque()
        self.running: Prompt | None = None
        self.history: dict[str, dict[str, Any]] = {}
        self._outbox = outbox
        self._script = script
        self._keeps_results = keeps_results
        self._pictures = pictures
        self._wake = asyncio.Event()
        self._cached: set[str] = set()
        self._checkpoint = ""
        self._free: dict[str, bool] = {}
        self._lost_device: NodeError | None = None

    async def put(self, prompt: Prompt) -> None:
        logger.info("Prompt queued")
        self.pending.append(prompt)
        self._wake.set()
        await self._tell_queue()

    async def delete(self, prompt_id: str) -> None:
        """Take a prompt out of the queue; one that runs is left alone."""
        self.pending = deque(prompt for prompt in self.pending if prompt.id != prompt_id)
        await self._tell_queue()

    def interrupt(self, prompt_id: str | None) -> None:
        """Stop the prompt that runs; with an id only if it is that one."""
        if self.running and prompt_id in (None, self.running.id):
            logger.info("Interrupting prompt {}", self.running.id)
            self.running.interrupted.set()

    def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Forget models and cached results before the next prompt."""
        logger.info("Free: models {}, results {}", unload_models, free_memory)
        self._free = {"models": unload_models, "results": free_memory}
        self._wake.set()

    async def run(self) -> None:
        """Serve the queue for ever."""
        while True:
            self._let_go()
            if not self.pending:
                self._wake.clear()
                await self._wake.wait()
                continue
            self.running = prompt = self.pending.popleft()
            await self._tell_queue()
            success = await self._execute(prompt)
            self.running = None
            self._remember(prompt, success)
            await self._tell_queue()
            await self._outbox.tell(prompt.client_id, "executing", {"node": None, "prompt_id": prompt.id})
            logger.info("Prompt executed")

    def _let_go(self) -> None:
        if self._free.get("models"):
            self._checkpoint = ""
        if self._free.get("results"):
            self._cached.clear()
        self._free = {}

    def _remember(self, prompt: Prompt, success: bool) -> None:
        if len(self.history) >= HISTORY_LIMIT:
            self.history.pop(next(iter(self.history)))
        status = {"status_str": "success" if success else "error", "completed": success, "messages": prompt.messages}
        self.history[prompt.id] = {"prompt": prompt.listed(), "outputs": {}, "status": status, "meta": {}}

    async def _tell_queue(self) -> None:
        remaining = len(self.pending) + (self.running is not None)
        await self._outbox.tell_all("status", {"status": {"exec_info": {"queue_remaining": remaining}}})

    async def _say(self, prompt: Prompt, kind: str, **data: Any) -> None:
        """An event that the history keeps."""
        data |= {"prompt_id": prompt.id, "timestamp": int(time.time() * 1000)}
        prompt.messages.append((kind, data))
        await self._outbox.tell(prompt.client_id, kind, data)

    async def _execute(self, prompt: Prompt) -> bool:
        workflow = prompt.workflow
        await self._say(prompt, "execution_start")
        signatures = workflow.signatures
        if not self._keeps_results:
            self._cached &= set(signatures.values())
        cached = [id_ for id_, signature in signatures.items() if signature in self._cached]
        await self._say(prompt, "execution_cached", nodes=cached)
        prompt.fault = claim_fault(self._script, JOB_FAULTS, workflow.checkpoint)
        to_run = [id_ for id_ in workflow.order if id_ not in cached]
        node_id = ""
        done: list[str] = []
        try:
            for node_id in to_run:
                await self._execute_node(prompt, node_id, to_run)
                done.append(node_id)
        except InterruptedPrompt:
            node_type = workflow.nodes[node_id]["class_type"]
            await self._say(prompt, "execution_interrupted", node_id=node_id, node_type=node_type, executed=done)
            return False
        except NodeError as error:
            logger.error("!!! Exception during processing !!! {}", error)
            await self._say(
                prompt,
                "execution_error",
                node_id=node_id,
                node_type=workflow.nodes[node_id]["class_type"],
                executed=done,
                exception_message=f"{error}\n",
                exception_type=error.exception_type,
                traceback=[],
                current_inputs={},
                current_outputs=cached,
            )
            return False
        await self._say(prompt, "execution_success")
        return True

    async def _execute_node(self, prompt: Prompt, node_id: str, to_run: list[str]) -> None:
        workflow = prompt.workflow
        await self._tell_progress(prompt, node_id, 0.0, 1.0, "running")
        executing = {"node": node_id, "display_node": node_id, "prompt_id": prompt.id}
        await self._outbox.tell(prompt.client_id, "executing", executing)
        await self._pause(prompt, 0)
        node = workflow.nodes[node_id]
        if node["class_type"] == "HordeImageInput" and self._pictures.get(node["inputs"]["key"]) is None:
            raise NodeError("PIL.UnidentifiedImageError", "cannot identify image file <_io.BytesIO object at 0x7fd6>")
        self._strike_node(prompt, node)
        if node["class_type"] in SENDERS:
            await self._strike(prompt)
            await self._deliver(prompt, node_id)
        else:
            await self._work(prompt, node_id, to_run)
            self._cached.add(workflow.signatures[node_id])
        last = prompt.progress[node_id]
        await self._tell_progress(prompt, node_id, last["max"], last["max"], "finished")

    async def _work(self, prompt: Prompt, node_id: str, to_run: list[str]) -> None:
        """Take a node's share of the job's time: samplers have all of it, or the first node where none samples."""
        workflow = prompt.workflow
        if workflow.checkpoint != self._checkpoint:
            self._checkpoint = workflow.checkpoint
            if workflow.checkpoint:
                logger.info("Loading {}", workflow.checkpoint)
                await self._pause(prompt, read_script(self._script).load_seconds)
        samplers = [id_ for id_ in to_run if workflow.samples(id_)]
        workers = samplers or to_run[:1]
        if node_id not in workers:
            return
        steps = {id_: workflow.steps(id_) for id_ in workers}
        total = sum(steps.values())
        done = sum(steps[id_] for id_ in workers[: workers.index(node_id)])
        if samplers:
            self._take_memory(prompt, node_id)
        for step in range(1, steps[node_id] + 1):
            await self._pause(prompt, read_script(self._script).seconds / total)
            if samplers:
                await self._tell_progress(prompt, node_id, step, steps[node_id], "running")
                progress = {"value": step, "max": steps[node_id], "prompt_id": prompt.id, "node": node_id}
                await self._outbox.tell(prompt.client_id, "progress", progress)
            if prompt.fault and done + step >= prompt.fault.at * total:
                await self._strike(prompt)

    def _take_memory(self, prompt: Prompt, node_id: str) -> None:
        """Sample on the script's card, if there is one. Raises NodeError where it has no room."""
        script = read_script(self._script)
        if script.card_bytes:
            size = prompt.workflow.size(node_id, self._pictures)
            used = int(script.bytes_per_pixel * size.width * size.height * size.count)
            if used > script.card_bytes:
                raise NodeError(*EXCEPTIONS[FaultKind.OUT_OF_MEMORY])
            before = prompt.memory["used"] if prompt.memory else 0
            prompt.memory = {"used": max(used, before), "total": script.card_bytes}

    async def _tell_progress(self, prompt: Prompt, node_id: str, value: float, maximum: float, state: str) -> None:
        ids = {"display_node_id": node_id, "parent_node_id": None, "real_node_id": node_id}
        common = {"node_id": node_id, "prompt_id": prompt.id, **ids}
        prompt.progress[node_id] = {"value": value, "max": maximum, "state": state, **common}
        await self._outbox.tell(
            prompt.client_id, "progress_state", {"prompt_id": prompt.id, "nodes": dict(prompt.progress)}
        )

    @staticmethod
    async def _pause(prompt: Prompt, seconds: float) -> None:
        """Let time pass. Raises InterruptedPrompt when told to stop."""
        if seconds > 0:
            try:
                async with timeout(seconds):
                    await prompt.interrupted.wait()
            except TimeoutError:
                return
        if prompt.interrupted.is_set():
            raise InterruptedPrompt

    async def _strike(self, prompt: Prompt) -> None:
        """Let the prompt's fault happen, unless it waits for a frame."""
        if self._lost_device:
            raise self._lost_device
        if prompt.fault is None or prompt.fault.kind in (FaultKind.FRAME_LOST, FaultKind.FRAME_DAMAGED):
            return
        kind, prompt.fault = prompt.fault.kind, None
        logger.warning("Fault: {}", kind.value)
        match kind:
            case FaultKind.HANG:
                await asyncio.Event().wait()
            case FaultKind.FREEZE:
                while True:
                    time.sleep(3600)  # noqa: ASYNC251 - a process that stands still is the point
            case FaultKind.CRASH:
                os._exit(1)
            case FaultKind.SEGFAULT:
                os.kill(os.getpid(), signal.SIGSEGV)
            case FaultKind.SOCKET_LOST:
                await self._outbox.drop(prompt.client_id)
            case _:
                error = NodeError(*EXCEPTIONS[kind])
                if kind is FaultKind.DEVICE_LOST:
                    self._lost_device = error
                raise error

    def _strike_node(self, prompt: Prompt, node: Mapping[str, Any]) -> None:
        """Let a fault of this class of nodes happen. Raises NodeError."""
        kinds = NODE_FAULTS.get(node["class_type"], frozenset())
        lora = str(node["inputs"].get("lora_name", ""))
        if kinds and (fault := claim_fault(self._script, kinds, prompt.workflow.checkpoint, lora)):
            logger.warning("Fault: {}", fault.kind.value)
            raise NodeError(*EXCEPTIONS[fault.kind])

    async def _deliver(self, prompt: Prompt, node_id: str) -> None:
        """Send the pictures of an output node."""
        workflow = prompt.workflow
        node = workflow.nodes[node_id]
        source_id: str = node["inputs"]["images"][0]
        source, signature = workflow.nodes[source_id], workflow.signatures[source_id]
        try:
            size = workflow.size(source_id, self._pictures)
        except ValueError as error:
            raise NodeError(type(error).__name__, str(error)) from error
        for index in range(size.count):
            picture = await asyncio.to_thread(paint, source, signature, size, index)
            if node["class_type"] == "HordeImageOutput":
                frame = raw_frame(prompt.id, node_id, picture, index, size.count, memory=prompt.memory)
                await self._send_frame(prompt, frame)
            else:
                await self._tell_progress(prompt, node_id, index, size.count, "running")
                await self._send_frame(prompt, png_frame(prompt.id, node_id, picture))
                progress = {"value": index, "max": size.count, "prompt_id": prompt.id, "node": node_id}
                await self._outbox.tell(prompt.client_id, "progress", progress)

    async def _send_frame(self, prompt: Prompt, frame: bytes) -> None:
        kind = prompt.fault.kind if prompt.fault else None
        prompt.fault = None
        match kind:
            case FaultKind.FRAME_LOST:
                logger.warning("Fault: {}", kind.value)
            case FaultKind.FRAME_DAMAGED:
                logger.warning("Fault: {}", kind.value)
                await self._outbox.send_frame(prompt.client_id, frame[:-DAMAGE_BYTES])
            case _:
                await self._outbox.send_frame(prompt.client_id, frame)
