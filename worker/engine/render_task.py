"""What a job asks of an engine, what its tries may be, and what the pool knows from earlier jobs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from worker.after_fault import after_fault
from worker.engine.events import MemoryNeed, Progress
from worker.engine.graph_trace import Graph
from worker.engine.slot import EngineSlot
from worker.engine.stall_detector import StallLimits
from worker.errors import Addition, AdditionBroken, EngineError, Retry


@dataclass(frozen=True)
class Rendering:
    """A graph for one kind of engine, the ids of its output nodes, and the number of images that it makes."""

    graph: Graph
    outputs: tuple[str, ...]
    count: int
    #: evaluations of each pixel that a sampler may do at once; 0: its memory tells nothing of other sizes
    evaluations: int = 0


class Conditions(NamedTuple):
    """What the graphs of one try depend on beside the job."""

    #: the engine has the node pack; else only ComfyUI's own nodes
    has_node_pack: bool = True
    #: an earlier try ran out of memory
    save_memory: bool = False
    #: LoRAs and textual inversions that earlier tries could not use
    without: frozenset[Addition] = frozenset()

    def after(self, how: Retry, error: EngineError, task: "RenderTask") -> "Conditions":
        """The conditions of the next try after one that failed with `error`."""
        match how:
            case Retry.DEGRADED:
                return self._replace(save_memory=True)
            case Retry.WITHOUT if isinstance(error, AdditionBroken):
                # Where a second one fails there is no time to find them one by one.
                more = task.additions if self.without else frozenset()
                return self._replace(without=self.without | error.additions | more)
            case Retry.WITHOUT:
                return self._replace(without=task.additions)
            case _:
                return self


@dataclass(frozen=True)
class RenderTask:
    """What a job asks of an engine."""

    #: name of the model; an engine that has it in memory is preferred
    model: str
    #: makes the graphs to render, one after another
    prepare: Callable[[Conditions], Sequence[Rendering]]
    #: encoded pictures by the key the graph knows them by
    pictures: Mapping[str, bytes]
    #: seconds on the event loop's clock after which no new try makes sense
    deadline: float
    on_progress: Callable[[Progress], None] = lambda _: None
    #: called with the number of the slot, for each try
    on_placed: Callable[[int], None] = lambda _: None
    #: called with the error of each try that an engine had begun, or whose files it could not use
    on_failed: Callable[[EngineError], None] = lambda _: None
    #: width times height of one image, and the number of images in a batch
    pixels: int = 0
    batch: int = 1
    #: LoRAs and textual inversions of the job: one of them, and not the model, may be what breaks an engine
    additions: frozenset[Addition] = frozenset()


@dataclass(frozen=True)
class RenderRetries:
    """Limits to the tries of one job."""

    #: tries that an engine began; the Horde counts a fault and a late answer the same, so more only cost other jobs
    attempts: int = 2
    #: tries in all: one that failed before the engine began says nothing about the job
    most_attempts: int = 4
    #: a retry needs at least this share of the time of the failed attempt, before the ttl ends
    share_of_first: float = 1.0

    def next_try(self, error: EngineError, *, attempt: int, took_s: float, left_s: float) -> Retry:
        """How to try again after `attempt` tries that an engine began, with `left_s` seconds to go.

        `took_s`: seconds that the engine spent on the last try; 0 where it had not begun.
        """
        if attempt >= self.attempts or left_s <= took_s * self.share_of_first:
            return Retry.NO
        return after_fault(error).retry


class PoolEstimates:
    """What earlier jobs showed about models and devices: the pool asks for it and adds to it. This knows nothing."""

    #: limits of standing still, by model and phase; None: one limit for everything
    stall_limits: StallLimits | None = None

    def work_in_s(self, slots: Collection[int]) -> Mapping[int, float]:
        """Seconds until each slot has nothing to do, by number."""
        return dict.fromkeys(slots, 0.0)

    def fits(self, slot: EngineSlot, task: RenderTask) -> bool:  # noqa: ARG002 - for those who know
        """Whether the slot's card has the memory that the task needs."""
        return True

    def engine_failed(self, slot: EngineSlot, task: RenderTask, error: EngineError) -> None:
        """Learn from a try that failed after an engine had begun it."""

    def models_cleared(self, models: Collection[str]) -> None:
        """Forget what engines did with these models: it was not theirs."""

    def memory_taken(self, slot: EngineSlot, task: RenderTask, rendering: Rendering, need: MemoryNeed) -> None:
        """Learn what a successful rendering took of the card, where the engine tells."""
