"""A plan and a request as the graph that ComfyUI gets. Pure: the same request gives the same graph, byte for byte."""

from dataclasses import dataclass

from worker.errors import JobNotServable, TemplateError
from worker.workflows import graph as graphs
from worker.workflows.features import Feature
from worker.workflows.graph import Graph, Input, Link
from worker.workflows.manifest import Dialect
from worker.workflows.request import RenderRequest
from worker.workflows.select import Plan
from worker.workflows.templates import Fragment, Piece


@dataclass(frozen=True)
class Materialised:
    """`graph` is the prompt of POST /prompt; `outputs` are ids of the nodes that hand out the pictures."""

    graph: Graph
    outputs: tuple[str, ...]


def materialise(plan: Plan, request: RenderRequest, *, dialect: Dialect = Dialect.PACK) -> Materialised:
    """Fill in the template, splice in the fragments. Raises JobNotServable for what the dialect has no nodes for."""
    fragments = plan.fragments[dialect]
    if missing := plan.missing(dialect):
        raise JobNotServable(f"{', '.join(sorted(missing))} can't be done with the {dialect.value} nodes.")

    template = plan.template
    graph = graphs.copied(template.graph, without=template.outputs)
    _fill(graph, template, request)
    ports = graphs.with_pinned(template.ports)
    outputs: list[str] = []
    for fragment in fragments:
        for number, item in enumerate(fragment.items(request), start=1):
            piece = graphs.copied(fragment.graph)
            _fill(piece, fragment, request, item)
            ids = fragment.ids(number)
            _splice(graph, ports, fragment, graphs.renamed(piece, ids), ids)
            if fragment.when is Feature.OUTPUT:
                outputs.extend(ids.values())
    if dangling := graphs.dangling(graph):
        raise TemplateError(
            f"{template.name} does not hold together with {', '.join(each.name for each in fragments)}.",
            violations=tuple(f"{place.node}:{place.name}: node {link.node} is gone" for place, link in dangling),
        )
    return Materialised(graphs.pruned(graph, outputs), tuple(outputs))


def _splice(graph: Graph, ports: dict[str, Link], fragment: Fragment, piece: Graph, ids: dict[str, str]) -> None:
    graphs.splice(
        graph,
        ports,
        piece,
        takes={
            port: [Input(ids[place.node], place.name) for place in places] for port, places in fragment.takes.items()
        },
        gives={
            port: Link(ids[source.node], source.output) if isinstance(source, Link) else source
            for port, source in fragment.gives.items()
        },
    )


def _fill(graph: Graph, piece: Piece, request: RenderRequest, item: object = None) -> None:
    for binding in piece.bindings:
        value = binding.read(request, item)
        if value is None:
            raise TemplateError(f"{piece.name}:{binding.place.name}: this request has no {binding.field}.")
        graph[binding.place.node]["inputs"][binding.place.name] = value
