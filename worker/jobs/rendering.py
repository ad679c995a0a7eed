"""A job's graphs, and how far their samplers and upscalers come."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.engine.render_task import Conditions, Rendering
from worker.errors import Addition
from worker.jobs.broken_additions import leave_out
from worker.workflows.features import evaluations_of
from worker.workflows.materialise import materialise, parts_of, tiled
from worker.workflows.request import RenderRequest
from worker.workflows.template_selection import Selection
from worker.workflows.types import Dialect

#: Node classes of upscalers, the node pack's and ComfyUI's own.
UPSCALER_NODES = frozenset({"HordeImageUpscale", "ImageUpscaleWithModel"})


@dataclass
class Sampling:
    """Steps that a job's samplers did, and the time between them: loads and post-processing do not count."""

    steps: float = 0.0
    seconds: float = 0.0
    _node: str = ""
    _value: float = 0.0
    _at: float = 0.0

    def note(self, node: str, value: float, now: float) -> None:
        """A sampler came to `value` of its steps; 0: it began."""
        if node == self._node and value > self._value > 0:
            self.steps += value - self._value
            self.seconds += now - self._at
        if node != self._node or value > self._value:
            self._node, self._value, self._at = node, value, now

    def measured(self, now: float) -> tuple[float, float]:
        """Steps, and the seconds they took. Of a sampler without a step so far: one, and the time it has taken."""
        if not self.steps and self._node and not self._value:
            return 1.0, now - self._at
        return self.steps, self.seconds


@dataclass
class Upscaling:
    """How far a job's upscalers came, in the order in which they worked."""

    #: by node: share done at the first and at the last look, with the times of both
    _nodes: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)

    def note(self, node: str, value: float, maximum: float, now: float) -> None:
        """An upscaler came to `value` of `maximum` tiles."""
        if 0 < value <= maximum:
            share = value / maximum
            first, began, *_ = self._nodes.get(node, (share, now))
            self._nodes[node] = first, began, share, now

    def measured(self) -> tuple[tuple[float, float], ...]:
        """For each upscaler the share of its work that was seen, and the seconds that took."""
        return tuple((last - first, at - began) for first, began, last, at in self._nodes.values())


class JobGraphs:
    """Makes a job's graphs for whichever engine takes it. Each try makes them anew: the last one's images count."""

    def __init__(self, plan: Selection, request: RenderRequest) -> None:
        self._plan = plan
        self._request = request
        #: of each image of the last try, in order
        self.seeds: tuple[int, ...] = ()
        #: ids of the nodes that sample or enlarge, in any of the graphs
        self.samplers: set[str] = set()
        self.upscalers: set[str] = set()
        #: LoRAs and textual inversions that the last try did without
        self.without: frozenset[Addition] = frozenset()

    def __call__(self, conditions: Conditions) -> Sequence[Rendering]:
        """The graphs to render one after another. Raises TemplateError."""
        dialect = Dialect.PACK if conditions.has_node_pack else Dialect.STOCK
        self.without = conditions.without
        request = leave_out(self._request, conditions.without)
        parts = parts_of(self._plan, request, save_memory=conditions.save_memory)
        self.seeds = tuple(part.seed for part in parts for _ in range(part.batch))
        return [self._rendering(part, dialect, save_memory=conditions.save_memory) for part in parts]

    def _rendering(self, part: RenderRequest, dialect: Dialect, *, save_memory: bool) -> Rendering:
        made = materialise(self._plan, part, dialect=dialect)
        graph = tiled(made.graph) if save_memory else made.graph
        for node, content in graph.items():
            if "Sampler" in content["class_type"]:
                self.samplers.add(node)
            elif content["class_type"] in UPSCALER_NODES:
                self.upscalers.add(node)
        return Rendering(graph, made.outputs, part.batch, evaluations_of(part))
