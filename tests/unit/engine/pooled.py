"""What the tests of the pool have in common."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from worker.engine.events import Progress
from worker.engine.pool import EnginePool
from worker.engine.render_task import Conditions, Rendering, RenderTask
from worker.engine.slot import EngineSlot

Play = Callable[..., None]
Build = Callable[..., dict[str, Any]]
Until = Callable[[Callable[[], object]], Awaitable[None]]

FOR_EVER_S = 3600.0


@dataclass
class Job:
    """Makes render tasks and remembers how their graphs were asked for."""

    graph: dict[str, Any]
    model: str = "a"
    asked: list[Conditions] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def task(self, *, seconds: float = FOR_EVER_S) -> RenderTask:
        return RenderTask(
            model=self.model,
            prepare=self._prepare,
            pictures=self.pictures,
            deadline=asyncio.get_running_loop().time() + seconds,
            on_progress=self._note,
        )

    def _note(self, progress: Progress) -> None:
        # A node at work: from then on ComfyUI listens to interrupts.
        if progress.node_id:
            self.begun.set()

    def _prepare(self, conditions: Conditions) -> list[Rendering]:
        self.asked.append(conditions)
        return [Rendering(self.graph, ("out",), 1)]


@asynccontextmanager
async def all_ready(pool: EnginePool, until: Until) -> AsyncIterator[EnginePool]:
    """In the block it runs, and every slot was ready once."""
    async with pool.running():
        await until_ready(pool, until)
        yield pool


async def until_ready(pool: EnginePool, until: Until) -> None:
    await until(lambda: len(pool.ready_slots) == len(pool.slots))


def pid_of(slot: EngineSlot) -> int:
    assert slot.process is not None
    return slot.process.pid
