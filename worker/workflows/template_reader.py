"""A folder with graph.json and manifest.yaml, read and checked as far as that goes without knowing the node classes.

Everything found is reported at once, each as `file:node:input: what`, so that a template is mended in one go.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from worker.errors import TemplateError
from worker.workflows import graph as graphs
from worker.workflows.bind import Binding, bound
from worker.workflows.features import COMES_WITH, always_given
from worker.workflows.graph import Graph, Input, Link
from worker.workflows.manifest import FieldRef, FragmentManifest, Manifest, TemplateManifest
from worker.workflows.request import RenderRequest
from worker.workflows.templates import IMAGE_PORT, Fragment, LibraryEntry, Template, files_read, unread_fields
from worker.workflows.types import Feature

GRAPH_FILE = "graph.json"
MANIFEST_FILE = "manifest.yaml"
#: Larger files are no workflow.
MAX_FILE_BYTES = 4 * 1024 * 1024

M = TypeVar("M", bound=BaseModel)


class BrokenEntry(TemplateError):
    """What is wrong with a piece. `piece`: as much of it as could be read, None where it has no shape at all."""

    def __init__(self, message: str, *, violations: tuple[str, ...], piece: LibraryEntry | None) -> None:
        super().__init__(message, violations=violations, remedy="docs/workflows.md explains the files.")
        self.piece = piece


def read_template(folder: Path, name: str) -> Template:
    """Raises BrokenEntry with every violation."""
    reader = _Reader(folder, name)
    graph = reader.graph()
    manifest = reader.manifest(TemplateManifest)
    titles = reader.titles(graph, manifest)
    bindings = reader.bindings(graph, manifest, titles)
    ports = {
        port: link for port, text in manifest.ports.items() if (link := reader.link(f"ports.{port}", text, titles))
    }
    if IMAGE_PORT not in manifest.ports:
        reader.wrong(MANIFEST_FILE, "ports", f"the port {IMAGE_PORT} is missing: where do finished pictures come from?")
    all_titles = graphs.titles(graph)
    for title in manifest.outputs:
        if title not in all_titles:
            reader.wrong(MANIFEST_FILE, "outputs", f"the graph has no node titled {title}")
    known = {*RenderRequest.__dataclass_fields__, *(feature.value for feature in Feature)}
    for ignored in manifest.ignores:
        if ignored not in known:
            reader.wrong(MANIFEST_FILE, "ignores", f"{ignored} is neither a field nor a feature of a request")
    for field in unread_fields(bindings, manifest.ignores):
        reader.wrong(MANIFEST_FILE, "bind", f"nothing reads {field}; bind it, or list it in ignores")
    if not (manifest.serves.families or manifest.serves.models or manifest.serves.workflows):
        reader.wrong(MANIFEST_FILE, "serves", "name families, models or workflows")
    reader.dangling(graph)
    outputs = frozenset(node_id for title in manifest.outputs for node_id in all_titles.get(title, ()))
    reader.outputs(graph, outputs, bindings, ports)
    serves = manifest.serves
    reader.optional(graph, bindings, always_given(serves.features, modes=serves.modes, workflows=serves.workflows))
    template = Template(
        name=name,
        graph=graph,
        bindings=bindings,
        manifest=manifest,
        ports=ports,
        outputs=outputs,
        files=files_read(bindings),
    )
    reader.stop_if_wrong(template)
    return template


def read_fragment(folder: Path, name: str) -> Fragment:
    """Raises BrokenEntry with every violation. Nodes the manifest does not name are left out of the graph."""
    reader = _Reader(folder, name)
    graph = reader.graph()
    manifest = reader.manifest(FragmentManifest)
    titles = reader.titles(graph, manifest)
    graph = {node_id: graph[node_id] for node_id in graph if node_id in titles.values()}
    takes = {
        port: tuple(place for text in texts if (place := reader.place(f"in.{port}", text, titles)))
        for port, texts in manifest.takes.items()
    }
    gives: dict[str, Link | str] = {}
    for port, text in manifest.gives.items():
        source = text if "." not in text else reader.link(f"out.{port}", text, titles)
        if source:
            gives[port] = source
    bindings = reader.bindings(graph, manifest, titles, each=manifest.each)
    fed = {place for places in takes.values() for place in places}
    for place, link in graphs.dangling(graph):
        if place not in fed:
            reader.wrong(GRAPH_FILE, reader.at(graph, place), f"comes from node {link.node}, which is not in `nodes`")
    reader.optional(graph, bindings, always_given({manifest.when}))
    fragment = Fragment(name=name, graph=graph, bindings=bindings, manifest=manifest, takes=takes, gives=gives)
    reader.stop_if_wrong(fragment)
    return fragment


class _Reader:
    """Collects what is wrong with one folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._violations: list[str] = []

    def wrong(self, file: str, where: str, what: str) -> None:
        self._violations.append(f"{self._name}/{file}:{where}: {what}")

    def stop_if_wrong(self, piece: LibraryEntry | None = None) -> None:
        if self._violations:
            raise BrokenEntry(
                f"{self._folder} can't be used as a workflow:", violations=tuple(self._violations), piece=piece
            )

    def manifest(self, shape: type[M]) -> M:
        """The last of the files to be read: raises TemplateError with what is wrong with either."""
        content = self._load(MANIFEST_FILE, yaml.safe_load)
        try:
            manifest = shape.model_validate(content)
        except ValidationError as error:
            for found in error.errors(include_url=False):
                self.wrong(MANIFEST_FILE, ".".join(map(str, found["loc"])), found["msg"])
        self.stop_if_wrong()
        return manifest

    def graph(self) -> Graph:
        content = self._load(GRAPH_FILE, json.loads)
        match content:
            case {"nodes": list()}:
                self.wrong(GRAPH_FILE, "", "is a workflow of the editor; export it with Workflow > Export (API)")
            case dict() if all(map(_is_node, content.values())):
                return content
            case _:
                self.wrong(GRAPH_FILE, "", "is not an API export: an object of nodes with class_type and inputs")
        return {}

    def _load(self, file: str, parse: Callable[[str], Any]) -> Any:
        try:
            if (self._folder / file).stat().st_size > MAX_FILE_BYTES:
                self.wrong(file, "", f"is larger than {MAX_FILE_BYTES} bytes")
            else:
                return parse((self._folder / file).read_text("utf-8-sig"))
        except OSError as error:
            self.wrong(file, "", f"can't be read: {error.strerror}")
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            self.wrong(file, "", f"is not well-formed: {' '.join(str(error).split())}")
        return {}

    def titles(self, graph: Graph, manifest: Manifest) -> dict[str, str]:
        """Title → node id, for the titles that the manifest names."""
        found = graphs.titles(graph)
        result = {}
        for title, classes in manifest.nodes.items():
            match found.get(title, []):
                case [node_id]:
                    result[title] = node_id
                    if (actual := graph[node_id]["class_type"]) not in classes:
                        self.wrong(GRAPH_FILE, title, f"is a {actual}; the manifest says {' or '.join(classes)}")
                case []:
                    self.wrong(MANIFEST_FILE, f"nodes.{title}", "the graph has no node with this title")
                case several:
                    self.wrong(MANIFEST_FILE, f"nodes.{title}", f"{len(several)} nodes have this title")
        return result

    def bindings(
        self, graph: Graph, manifest: Manifest, titles: dict[str, str], *, each: str | None = None
    ) -> tuple[Binding, ...]:
        """The bindings to fields; constants are written into the graph at once."""
        result = []
        for text, source in manifest.bind.items():
            place = self.place(f"bind.{text}", text, titles)
            if place is None:
                continue
            inputs = graph[place.node]["inputs"]
            if place.name not in inputs:
                self.wrong(MANIFEST_FILE, f"bind.{text}", f"the node has no such input; it has {', '.join(inputs)}")
            elif graphs.as_link(inputs[place.name]):
                self.wrong(MANIFEST_FILE, f"bind.{text}", "is fed by another node; bind that node's input instead")
            try:
                match source:
                    case str():
                        result.append(bound(place, source, each=each))
                    case FieldRef():
                        result.append(bound(place, source.from_, via=source.via, each=each))
                    case _:
                        inputs[place.name] = source.value
            except ValueError as error:
                self.wrong(MANIFEST_FILE, f"bind.{text}", str(error))
        return tuple(result)

    def place(self, where: str, text: str, titles: dict[str, str]) -> Input | None:
        title, _, name = text.rpartition(".")
        if title not in titles:
            self.wrong(MANIFEST_FILE, where, f"{text} is not title.input of a title in `nodes`")
            return None
        return Input(titles[title], name)

    def link(self, where: str, text: str, titles: dict[str, str]) -> Link | None:
        title, _, output = text.rpartition(".")
        if title not in titles or not output.isdecimal():
            self.wrong(MANIFEST_FILE, where, f"{text} is not title.number of a title in `nodes`")
            return None
        return Link(titles[title], int(output))

    def dangling(self, graph: Graph) -> None:
        for place, link in graphs.dangling(graph):
            self.wrong(GRAPH_FILE, self.at(graph, place), f"comes from node {link.node}, which does not exist")

    def outputs(
        self, graph: Graph, outputs: frozenset[str], bindings: tuple[Binding, ...], ports: dict[str, Link]
    ) -> None:
        """The export's own last nodes are left out of every job, so nothing else may need them."""
        title = {node_id: graph[node_id]["_meta"]["title"] for node_id in outputs}
        for place, link in graphs.links(graph):
            if link.node in outputs and place.node not in outputs:
                where = self.at(graph, place)
                self.wrong(MANIFEST_FILE, "outputs", f"{title[link.node]} feeds {where}, so it is not the last node")
        for port, link in ports.items():
            if link.node in outputs:
                self.wrong(MANIFEST_FILE, "outputs", f"{title[link.node]} is left out, but the port {port} is there")
        for place in (binding.place for binding in bindings):
            if place.node in outputs:
                where = f"bind.{self.at(graph, place, joint='.')}"
                self.wrong(MANIFEST_FILE, where, "this node is one of the outputs, which are left out")

    def optional(self, graph: Graph, bindings: tuple[Binding, ...], given: frozenset[str]) -> None:
        """A job without a value for a binding would be lost, so each must come with what the piece is for."""
        for binding in bindings:
            field = binding.field.partition(".")[0]
            if binding.optional and field not in given:
                those = " or ".join(sorted(feature.value for feature in COMES_WITH.get(field, ())))
                only = f", only those with {those}" if those else ""
                where = f"bind.{self.at(graph, binding.place, joint='.')}"
                self.wrong(MANIFEST_FILE, where, f"not every job has {binding.field}{only}")

    @staticmethod
    def at(graph: Graph, place: Input, *, joint: str = ":") -> str:
        """A node by its title, if it has one, and the input."""
        return f"{graph[place.node].get('_meta', {}).get('title') or place.node}{joint}{place.name}"


def _is_node(value: Any) -> bool:
    match value:
        case {"class_type": str(), "inputs": dict()}:
            return isinstance(value.get("_meta", {}), dict)
        case _:
            return False
