"""A ComfyUI graph in its API form, and the one way to change its shape: splicing at ports.

A port is a named output of a node ("model", "image"). A graph that is spliced in at a port takes the port's current
source and then feeds every consumer that the source had, so that any number of them can follow one another, in any
family's graph.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

#: Prefix of a port's name: the port as the template has it, without what was spliced in since.
PINNED = "template."

Node = dict[str, Any]
#: node id → {"class_type", "inputs", "_meta"}
Graph = dict[str, Node]


class Link(NamedTuple):
    """One output of a node."""

    node: str
    output: int


class Input(NamedTuple):
    """One input of a node."""

    node: str
    name: str


_LIST = (list, tuple)


def as_link(value: Any) -> Link | None:
    """An input's value as a link, if ComfyUI takes it for one."""
    # Called for every input of every node several times a job; pattern matching is slower, and so is `list | tuple`,
    # which is made anew each time.
    if not isinstance(value, _LIST) or len(value) != 2:  # noqa: PLR2004 - a node and an output
        return None
    node, output = value
    return Link(node, output) if isinstance(node, str) and isinstance(output, int) else None


def with_pinned(ports: Mapping[str, Link]) -> dict[str, Link]:
    """A template's ports, each also under its pinned name."""
    return {**ports, **{f"{PINNED}{name}": source for name, source in ports.items()}}


def links(graph: Graph) -> Iterator[tuple[Input, Link]]:
    for node_id, node in graph.items():
        for name, value in node["inputs"].items():
            if link := as_link(value):
                yield Input(node_id, name), link


def dangling(graph: Graph) -> list[tuple[Input, Link]]:
    """Links to nodes that do not exist."""
    return [(place, link) for place, link in links(graph) if link.node not in graph]


def circle(graph: Graph) -> list[str]:
    """Ids of nodes that depend on one another in a circle; empty for none."""
    feeds = {
        node_id: {link.node for value in node["inputs"].values() if (link := as_link(value))} & graph.keys()
        for node_id, node in graph.items()
    }
    while ready := [node_id for node_id, sources in feeds.items() if not sources]:
        for node_id in ready:
            del feeds[node_id]
        for sources in feeds.values():
            sources.difference_update(ready)
    return list(feeds)


def title_of(graph: Graph, node_id: str) -> str:
    """A node's title, or its id where it has none; for messages."""
    return graph[node_id].get("_meta", {}).get("title") or node_id


def titles(graph: Graph) -> dict[str, list[str]]:
    """Title → ids of the nodes with it."""
    found: dict[str, list[str]] = {}
    for node_id, node in graph.items():
        found.setdefault(node.get("_meta", {}).get("title", ""), []).append(node_id)
    return found


def copied(graph: Graph, *, without: Collection[str] = ()) -> Graph:
    """A copy whose inputs may be changed."""
    return {
        node_id: {"class_type": node["class_type"], "inputs": dict(node["inputs"]), "_meta": node.get("_meta", {})}
        for node_id, node in graph.items()
        if node_id not in without
    }


def renamed(graph: Graph, ids: Mapping[str, str]) -> Graph:
    """A copy with other ids, links included."""
    result = {}
    for node_id, node in copied(graph).items():
        for name, value in node["inputs"].items():
            if (link := as_link(value)) and link.node in ids:
                node["inputs"][name] = [ids[link.node], link.output]
        result[ids[node_id]] = node
    return result


def rewire(graph: Graph, sources: Mapping[Link, Link], *, beside: Collection[str] = ()) -> None:
    """Feed every consumer of an old source from its new one, but for the nodes in `beside`."""
    if not sources:
        return
    for node_id, node in graph.items():
        if node_id not in beside:
            inputs = node["inputs"]
            for name, value in inputs.items():
                if (link := as_link(value)) and link in sources:
                    inputs[name] = list(sources[link])


def splice(
    graph: Graph,
    ports: dict[str, Link],
    piece: Graph,
    *,
    takes: Mapping[str, Collection[Input]],
    gives: Mapping[str, Link | str],
) -> None:
    """Put `piece` between ports and their consumers; `graph` and `ports` are changed.

    `takes`: port → inputs of the piece that its source feeds. `gives`: port → what is its source from now on, an
    output of the piece or the source of another port. A port that only the piece gives is new afterwards, a pinned one
    stays what it was.
    Raises KeyError for a port that is not there.
    """
    given = {name: source if isinstance(source, Link) else ports[source] for name, source in gives.items()}
    for name, places in takes.items():
        for place in places:
            piece[place.node]["inputs"][place.name] = list(ports[name])
    graph.update(piece)
    replaced = {ports[name]: new for name, new in given.items() if name in ports and ports[name] != new}
    rewire(graph, replaced, beside=piece)
    for name, source in ports.items():
        if not name.startswith(PINNED):
            ports[name] = replaced.get(source, source)
    ports.update(given)


def pruned(graph: Graph, keep: Collection[str]) -> Graph:
    """Only the nodes that those in `keep` need, in their old order. Raises KeyError on a dangling link."""
    needed: set[str] = set()
    waiting = list(keep)
    while waiting:
        node_id = waiting.pop()
        if node_id not in needed:
            needed.add(node_id)
            waiting.extend(link.node for value in graph[node_id]["inputs"].values() if (link := as_link(value)))
    return {node_id: node for node_id, node in graph.items() if node_id in needed}
