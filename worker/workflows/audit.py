"""Graphs, templates and fragments against what the nodes of an engine take: its /object_info, or our snapshot of it.

ComfyUI drops inputs it does not know without a word, so a misspelt one must be found here. Every audit returns all
it finds, as sentences that begin with the place, `node:input: what`.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from worker.workflows.graph import PINNED, Graph, Input, Link, as_link, circle
from worker.workflows.library import Library
from worker.workflows.template_reader import GRAPH_FILE, MANIFEST_FILE
from worker.workflows.templates import Fragment, LibraryEntry, Template

ObjectInfo = Mapping[str, Mapping[str, Any]]

SNAPSHOT_FILE = Path(__file__).with_name("object_info.json")
#: Stands in the snapshot for the choices that are an owner's files.
ANY_FILE = "ANY_FILE"
ANY_TYPE = "*"

#: What each port carries, wherever it stands.
PORT_TYPES = {
    "model": "MODEL", "clip": "CLIP", "vae": "VAE", "positive": "CONDITIONING", "negative": "CONDITIONING",
    "latent": "LATENT", "sampled": "LATENT", "image": "IMAGE", "source": "IMAGE", "mask": "MASK",
    "hint": "IMAGE",
    "clip_vision": "CLIP_VISION", "source_vae": "VAE", "decoder_model": "MODEL",
    "decoder_text": "CONDITIONING", "decoder_negative": "CONDITIONING",
}  # fmt: skip

#: Python's type of a binding → the widgets that take it.
WIDGETS = {
    bool: {"BOOLEAN"},
    int: {"INT", "FLOAT"},
    float: {"FLOAT"},
    str: {"STRING", "COMBO"},
}


class InputSpec(NamedTuple):
    """One input as a node class declares it. `choices`: None for anything, else the allowed values."""

    kind: str
    required: bool
    options: Mapping[str, Any]
    choices: Collection[Any] | None


@cache
def snapshot() -> ObjectInfo:
    """The node classes of the pinned ComfyUI and of our pack; tests/contract/refresh_object_info.py writes it."""
    info: ObjectInfo = json.loads(SNAPSHOT_FILE.read_text("utf-8"))
    return info


def with_any_file(object_info: ObjectInfo) -> ObjectInfo:
    """What an engine tells, without which files it has at this moment: those come and go while it runs."""
    known = snapshot()
    return {name: _any_file(info, known[name]) if name in known else info for name, info in object_info.items()}


def _any_file(class_info: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    declared = {
        group: {
            name: [ANY_FILE] if known["input"].get(group, {}).get(name) == [ANY_FILE] else spec
            for name, spec in inputs.items()
        }
        if isinstance(inputs, Mapping)
        else inputs
        for group, inputs in class_info.get("input", {}).items()
    }
    return {**class_info, "input": declared}


def audit_library(library: Library, object_info: ObjectInfo) -> dict[str, list[str]]:
    """Name of each template and fragment → what is wrong with it; an empty list where nothing is."""
    return {piece.name: _audit_entry(piece, object_info) for piece in (*library.templates, *library.fragments)}


def everything_wrong(library: Library, object_info: ObjectInfo) -> list[str]:
    """All that is wrong with any piece, usable or not, each once, as `file:node:input: what`."""
    found = list(library.violations)
    for piece in (*library.templates, *library.fragments, *library.broken):
        found += [f"{piece.name}/{GRAPH_FILE}:{sentence}" for sentence in _audit_nodes(piece, object_info)]
        found += [f"{piece.name}/{MANIFEST_FILE}:{sentence}" for sentence in _audit_manifest(piece, object_info)]
    return list(dict.fromkeys(found))


def audit_graph(graph: Graph, object_info: ObjectInfo, *, unchecked: Collection[Input] = ()) -> list[str]:
    """What ComfyUI would refuse, drop or misread in a graph. `unchecked`: inputs that get their value later."""
    found = [
        f"{node.get('_meta', {}).get('title') or node_id}:{sentence}"
        for node_id, node in graph.items()
        for sentence in _audit_node(graph, node_id, object_info, unchecked)
    ]
    if waiting := circle(graph):
        # ComfyUI refuses such a graph without a word of why.
        found.append(f"{waiting[0]}:: {' and '.join(waiting)} wait for one another")
    return found


def _audit_node(graph: Graph, node_id: str, object_info: ObjectInfo, unchecked: Collection[Input]) -> Iterator[str]:
    node = graph[node_id]
    if node["class_type"] not in object_info:
        yield f": the engine has no node class {node['class_type']}"
        return
    specs = _inputs(object_info[node["class_type"]])
    for name, spec in specs.items():
        if spec.required and name not in node["inputs"] and Input(node_id, name) not in unchecked:
            yield f"{name}: {node['class_type']} needs this input"
    for name, value in node["inputs"].items():
        if name not in specs:
            yield f"{name}: {node['class_type']} has no such input"
        elif link := as_link(value):
            if Input(node_id, name) not in unchecked and (
                problem := _check_link(graph, link, specs[name], object_info)
            ):
                yield f"{name}: {problem}"
        elif Input(node_id, name) not in unchecked and (problem := _check_value(value, specs[name])):
            yield f"{name}: {problem}"


def _audit_entry(piece: LibraryEntry, object_info: ObjectInfo) -> list[str]:
    return [*_audit_nodes(piece, object_info), *_audit_manifest(piece, object_info)]


def _audit_nodes(piece: LibraryEntry, object_info: ObjectInfo) -> list[str]:
    fed = [place for places in piece.takes.values() for place in places] if isinstance(piece, Fragment) else []
    bound = [binding.place for binding in piece.bindings]
    return audit_graph(piece.graph, object_info, unchecked={*fed, *bound})


def _audit_manifest(piece: LibraryEntry, object_info: ObjectInfo) -> list[str]:
    return [*_audit_bindings(piece, object_info), *_audit_ports(piece, object_info)]


def _audit_bindings(piece: LibraryEntry, object_info: ObjectInfo) -> Iterator[str]:
    for binding in piece.bindings:
        spec = _spec_at(piece.graph, binding.place, object_info)
        if spec is None:
            continue
        where = f"{piece.graph[binding.place.node]['_meta']['title']}:{binding.place.name}"
        if spec.kind not in WIDGETS[binding.kind]:
            yield f"{where}: takes {spec.kind}, but is bound to {binding.kind.__name__}"


def _audit_ports(piece: LibraryEntry, object_info: ObjectInfo) -> Iterator[str]:
    ports = piece.ports if isinstance(piece, Template) else piece.gives if isinstance(piece, Fragment) else {}
    for port, source in ports.items():
        if isinstance(source, Link):
            wanted = InputSpec(PORT_TYPES.get(port, ANY_TYPE), required=True, options={}, choices=None)
            if problem := _check_link(piece.graph, source, wanted, object_info):
                yield f"port {port}: {problem}"
    if isinstance(piece, Fragment):
        for port, places in piece.takes.items():
            for place in places:
                spec = _spec_at(piece.graph, place, object_info)
                wanted_type = PORT_TYPES.get(port.removeprefix(PINNED), ANY_TYPE)
                if spec is None and piece.graph[place.node]["class_type"] in object_info:
                    yield f"port {port}: {piece.graph[place.node]['class_type']} has no input {place.name}"
                elif spec is not None and not _fits(wanted_type, spec.kind):
                    yield f"port {port}: carries {wanted_type}, but {place.name} takes {spec.kind}"


def _spec_at(graph: Graph, place: Input, object_info: ObjectInfo) -> InputSpec | None:
    class_info = object_info.get(graph[place.node]["class_type"])
    return _inputs(class_info).get(place.name) if class_info else None


def _inputs(class_info: Mapping[str, Any]) -> dict[str, InputSpec]:
    declared = class_info.get("input", {})
    return {
        name: _parse(spec, required=group == "required")
        for group in ("required", "optional")
        for name, spec in declared.get(group, {}).items()
    }


def _parse(spec: Any, *, required: bool) -> InputSpec:
    """Both of ComfyUI's notations: choices in the place of the type, or type COMBO with the choices as options."""
    kind, *rest = spec
    options = rest[0] if rest and isinstance(rest[0], Mapping) else {}
    match kind:
        case list():
            return InputSpec("COMBO", required, options, kind)
        case "COMBO":
            return InputSpec("COMBO", required, options, options.get("options"))
        case _ if kind == ANY_FILE:
            return InputSpec("COMBO", required, options, None)
        case _:
            return InputSpec(str(kind), required, options, None)


def _check_link(graph: Graph, link: Link, spec: InputSpec, object_info: ObjectInfo) -> str | None:
    source = graph.get(link.node)
    if source is None:
        return f"comes from node {link.node}, which does not exist"
    class_info = object_info.get(source["class_type"])
    if class_info is None:
        return None  # said where that node itself is looked at
    outputs = class_info["output"]
    if link.output >= len(outputs):
        return f"{source['class_type']} has no output {link.output}, only {len(outputs)}"
    given = outputs[link.output]
    given = "COMBO" if isinstance(given, list) else given
    return None if _fits(given, spec.kind) else f"takes {spec.kind}, but {source['class_type']} gives {given}"


def _fits(given: str, taken: str) -> bool:
    """Types may be unions, as in "IMAGE,MASK"."""
    return ANY_TYPE in {given, taken} or not set(given.split(",")).isdisjoint(taken.split(","))


def _check_value(value: Any, spec: InputSpec) -> str | None:
    match spec.kind:
        case "COMBO":
            if spec.choices is not None and value not in spec.choices:
                return f"{value!r} is none of {', '.join(map(str, spec.choices)) or 'the choices (there are none)'}"
            return None
        case "INT" | "FLOAT":
            whole = spec.kind == "INT"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                return f"{value!r} is no {spec.kind}"
            low, high = spec.options.get("min", -math.inf), spec.options.get("max", math.inf)
            return None if low <= value <= high else f"{value} is not within {low} to {high}"
        case "STRING":
            return None if isinstance(value, str) else f"{value!r} is no STRING"
        case "BOOLEAN":
            return None if isinstance(value, bool) else f"{value!r} is no BOOLEAN"
        case kind:
            return f"takes {kind} from another node, not the value {value!r}"
