"""graph.json as ComfyUI exports it in API format, and in one sentence what else an author may have put there."""

from collections.abc import Iterator, Mapping
from typing import Any

from worker.workflows.graph import Graph

EXPORT_AGAIN = "export it with Workflow > Export (API)"
#: How deep a graph may lie in what programs wrap around it, as in {"input": {"workflow": …}}.
MAX_WRAPPING = 3


class NotAnExport(ValueError):
    """The sentence that says what the content is instead."""


def read_export(content: Any) -> Graph:
    """The graph. Raises NotAnExport with the one cause, and nothing that only follows from it."""
    match content:
        case {"nodes": list()}:
            raise NotAnExport(f"is a workflow of the editor; {EXPORT_AGAIN}")
        case dict() if all(map(_is_node, content.values())):
            _require_titles(content)
            return content
        case dict() if keys := next(_wrapped(content), ()):
            raise NotAnExport(f"wraps the graph, which lies under {'.'.join(keys)}; keep that part alone")
        case dict() if any(map(_is_node, content.values())):
            strange = next(key for key, value in content.items() if not _is_node(value))
            raise NotAnExport(f"{strange!r} is no node: it has no class_type and inputs; delete it, or {EXPORT_AGAIN}")
        case _:
            raise NotAnExport(f"is not an API export, an object of nodes with class_type and inputs; {EXPORT_AGAIN}")


def _is_node(value: Any) -> bool:
    match value:
        case {"class_type": str(), "inputs": dict()}:
            meta = value.get("_meta", {})
            return isinstance(meta, dict) and isinstance(meta.get("title", ""), str)
        case _:
            return False


def _wrapped(content: Mapping[str, Any], depth: int = 1) -> Iterator[tuple[str, ...]]:
    """Keys that lead to a graph within other things."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            if all(map(_is_node, value.values())):
                yield (key,)
            elif depth < MAX_WRAPPING and not _is_node(value):
                yield from ((key, *keys) for keys in _wrapped(value, depth + 1))


def _require_titles(graph: Graph) -> None:
    """Nodes are found by their titles, which exports have had since 2024."""
    if graph and not any(node.get("_meta", {}).get("title") for node in graph.values()):
        raise NotAnExport(f"has no titles, like exports of ComfyUI before 2024; open it in ComfyUI and {EXPORT_AGAIN}")
