"""One prompt in an engine: what was queued, and what the engine has sent of it so far."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from worker.engine import events
from worker.engine.error_classifier import classify
from worker.engine.graph_trace import Graph
from worker.engine.stall_detector import StallWatch
from worker.errors import EngineError, RenderCancelled
from worker.images import RawImage

INTERRUPTED = "The engine was told to stop this job."


@dataclass
class Prompt:
    """Made within the event loop."""

    graph: Graph
    #: ids of the nodes whose images count
    outputs: frozenset[str]
    #: images per output node, for engines that do not tell the size of a batch
    expected: int
    on_progress: Callable[[events.Progress], None]
    watch: StallWatch | None = None
    #: with its hyphens: from June 2026 on ComfyUI refuses any other spelling
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    #: done when the prompt has left the engine
    ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    memory: events.MemoryNeed | None = None
    failure: EngineError | None = None
    _images: dict[str, dict[int, RawImage]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all images of all output nodes have arrived."""
        return all(node in self._counts and len(self._images[node]) >= self._counts[node] for node in self.outputs)

    def in_order(self) -> list[RawImage]:
        """The images in the order of nodes and batch."""
        return [self._images[node][index] for node in sorted(self.outputs) for index in sorted(self._images[node])]

    def receive(self, event: events.Event) -> None:
        """Take an event of this prompt into account."""
        match event:
            case events.Started():
                self.on_progress(events.Progress(self.id, ""))
            case events.Progress(_, node_id):
                if node_id not in self.outputs:
                    self.on_progress(event)
            case events.ImageMade(_, node_id) if node_id in self.outputs:
                self._add(event)
            case events.Failed(_, failure):
                self.failure = classify(failure, self.graph)
            case events.Interrupted():
                self.failure = RenderCancelled(INTERRUPTED)
            case events.Finished():
                self.ended.set_result(None)

    def end_as_recorded(self, entry: Any) -> None:
        """End with what the engine's history has of this prompt."""
        for kind, data in events.history_messages(entry):
            match kind:
                case "execution_error":
                    self.failure = classify(events.read_failure(data), self.graph)
                case "execution_interrupted":
                    self.failure = RenderCancelled(INTERRUPTED)
        self.ended.set_result(None)

    def fail(self, error: EngineError) -> None:
        """End without the engine, unless it has ended."""
        if not self.ended.done():
            self.ended.set_exception(error)
            # Retrieved, so that asyncio does not log it when nobody waits any more.
            self.ended.exception()

    def _add(self, event: events.ImageMade) -> None:
        images = self._images.setdefault(event.node_id, {})
        images[event.index if event.index >= 0 else len(images)] = event.image
        self._counts[event.node_id] = event.count or self.expected
        self.memory = event.memory or self.memory
