"""A selection and a request as the graph that ComfyUI gets; the same request gives the same graph, byte for byte."""

from dataclasses import dataclass, replace

from worker.errors import JobNotServable, TemplateError
from worker.workflows import graph as graphs
from worker.workflows.graph import Graph, Input, Link
from worker.workflows.request import MAX_SEED, RenderRequest
from worker.workflows.samplers import DEFAULT_SAMPLER, DEFAULT_SCHEDULER, FROM_OUR_NODES, for_engine
from worker.workflows.template_selection import Selection
from worker.workflows.templates import Fragment, LibraryEntry
from worker.workflows.types import Dialect, Feature

#: Inputs of the tiled VAE nodes: tile and overlap in pixels. The temporal ones are for video, and required.
TILING = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
TILED = {"VAEDecode": "VAEDecodeTiled", "VAEEncode": "VAEEncodeTiled"}


@dataclass(frozen=True)
class Materialised:
    """`graph` is the prompt of POST /prompt; `outputs` are ids of the nodes that hand out the pictures."""

    graph: Graph
    outputs: tuple[str, ...]


def materialise(selection: Selection, request: RenderRequest, *, dialect: Dialect = Dialect.PACK) -> Materialised:
    """Fill in the template, splice in the fragments. Raises JobNotServable for what the dialect has no nodes for."""
    fragments = selection.fragments[dialect]
    request = _with_names_of_engine(selection, request, dialect)
    if missing := selection.missing(dialect):
        raise JobNotServable(f"{', '.join(sorted(missing))} can't be done with the {dialect.value} nodes.")

    template = selection.template
    graph = graphs.copied(template.graph, without=template.outputs)
    _fill(graph, template, request)
    ports = graphs.with_pinned(template.ports)
    outputs: list[str] = []
    for fragment in fragments:
        for number, item in enumerate(fragment.items(request), start=1):
            added = graphs.copied(fragment.graph)
            _fill(added, fragment, request, item)
            ids = fragment.ids(number)
            _splice(graph, ports, fragment, graphs.renamed(added, ids), ids)
            if fragment.when is Feature.OUTPUT:
                outputs.extend(ids.values())
    if dangling := graphs.dangling(graph):
        raise TemplateError(
            f"{template.name} does not hold together with {', '.join(each.name for each in fragments)}.",
            violations=tuple(f"{place.node}:{place.name}: node {link.node} is gone" for place, link in dangling),
        )
    return Materialised(graphs.pruned(graph, outputs), tuple(outputs))


def _with_names_of_engine(selection: Selection, request: RenderRequest, dialect: Dialect) -> RenderRequest:
    """The sampler and the scheduler as the engine has them, or the nearest that it has."""
    lacking = FROM_OUR_NODES if dialect is Dialect.STOCK else frozenset()
    sampler = for_engine(request.sampler, selection.samplers, DEFAULT_SAMPLER, lacking=lacking)
    scheduler = for_engine(request.scheduler, selection.schedulers, DEFAULT_SCHEDULER, lacking=lacking)
    if (sampler, scheduler) == (request.sampler, request.scheduler):
        return request
    return replace(request, sampler=sampler, scheduler=scheduler)


def _splice(graph: Graph, ports: dict[str, Link], fragment: Fragment, added: Graph, ids: dict[str, str]) -> None:
    graphs.splice(
        graph,
        ports,
        added,
        takes={
            port: [Input(ids[place.node], place.name) for place in places] for port, places in fragment.takes.items()
        },
        gives={
            port: Link(ids[source.node], source.output) if isinstance(source, Link) else source
            for port, source in fragment.gives.items()
        },
    )


def _fill(graph: Graph, entry: LibraryEntry, request: RenderRequest, item: object = None) -> None:
    for binding in entry.bindings:
        value = binding.read(request, item)
        if value is None:
            raise TemplateError(f"{entry.name}:{binding.place.name}: this request has no {binding.field}.")
        graph[binding.place.node]["inputs"][binding.place.name] = value


def parts_of(selection: Selection, request: RenderRequest, *, save_memory: bool = False) -> tuple[RenderRequest, ...]:
    """The renderings of a job: one of the whole batch, or one for each image, to save memory or for want of a batch."""
    return (request,) if selection.renders_batches and not save_memory else one_by_one(request)


def one_by_one(request: RenderRequest) -> tuple[RenderRequest, ...]:
    """Each image of the batch as a request of its own; the first has the seed that was asked for."""
    return tuple(replace(request, batch=1, seed=(request.seed + number) & MAX_SEED) for number in range(request.batch))


def tiled(graph: Graph) -> Graph:
    """The same graph with the tiled VAE nodes: slower, less memory, seams at most faintly visible.

    For a retry after out-of-memory.
    """
    return {
        node_id: {**node, "class_type": TILED[node["class_type"]], "inputs": {**node["inputs"], **TILING}}
        if node["class_type"] in TILED
        else node
        for node_id, node in graph.items()
    }
