"""A folder with graph.json and manifest.yaml, read and checked as far as possible without knowing the node classes.

All mistakes are reported at once, each as `file:node:input: what`, one sentence for each cause and none for what only
follows from it.
"""

import codecs
import json
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from worker.errors import TemplateError
from worker.workflows import graph as graphs
from worker.workflows import read_yaml
from worker.workflows.api_export import EXPORT_AGAIN, NotAnExport, read_export
from worker.workflows.bind import PICTURE_FIELDS, Binding, Transform, bound, one_of, share_of
from worker.workflows.features import COMES_WITH, always_given
from worker.workflows.graph import Graph, Input, Link
from worker.workflows.manifest import Constant, FieldRef, FragmentManifest, Manifest, TemplateManifest
from worker.workflows.request import RenderRequest
from worker.workflows.templates import IMAGE_PORT, Fragment, LibraryEntry, Template, files_read, unread_fields
from worker.workflows.types import Feature

GRAPH_FILE = "graph.json"
MANIFEST_FILE = "manifest.yaml"
#: The largest file that is read; ComfyUI's largest example workflows have 200 kB.
MAX_FILE_BYTES = 4 * 1024 * 1024

#: Keys of requesters' pictures in the engine's memory, and the one input that finds a picture by its key.
PICTURE_KEYS = ("source.key", "item.image.key")
KEY_READER = ("HordeImageInput", "key")

M = TypeVar("M", bound=Manifest)


class BrokenEntry(TemplateError):
    """What is wrong with a template or fragment. `entry`: as much of it as could be read, None for nothing."""

    def __init__(self, message: str, *, violations: tuple[str, ...], entry: LibraryEntry | None) -> None:
        super().__init__(message, violations=violations, remedy="docs/workflows.md explains the files.")
        self.entry = entry


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
        if title not in all_titles and title not in manifest.nodes:
            reader.wrong(MANIFEST_FILE, "outputs", f"the graph has no node titled {title}{near(title, all_titles)}")
    known = {*RenderRequest.__dataclass_fields__, *(feature.value for feature in Feature)}
    for ignored in manifest.ignores:
        if ignored not in known:
            reader.wrong(MANIFEST_FILE, "ignores", f"{ignored} is neither a field nor a feature of a request")
    for field in unread_fields(reader.fields, manifest.ignores):
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
        #: titles in the manifest's `nodes`; what is wrong with one is told there, and not again where it is used
        self._titles: set[str] = set()
        #: fields that the manifest's `bind` names
        self.fields: list[str] = []

    def wrong(self, file: str, where: str, what: str) -> None:
        self._violations.append(f"{self._name}/{file}:{where}: {what}")

    def stop_if_wrong(self, entry: LibraryEntry | None = None) -> None:
        if self._violations:
            raise BrokenEntry(
                f"{self._folder} can't be used as a workflow:", violations=tuple(self._violations), entry=entry
            )

    def manifest(self, shape: type[M]) -> M:
        """The last of the files to be read: raises BrokenEntry with what is wrong with either."""
        told = len(self._violations)
        content = self._load(MANIFEST_FILE, lambda text: read_yaml(text, self._folder))
        if content is not None or told == len(self._violations):
            try:
                manifest = shape.model_validate({} if content is None else content)
            except ValidationError as error:
                for found in error.errors(include_url=False):
                    self.wrong(MANIFEST_FILE, ".".join(map(str, found["loc"])), found["msg"])
        self.stop_if_wrong()
        self._titles = set(manifest.nodes)
        return manifest

    def graph(self) -> Graph:
        content = self._load(GRAPH_FILE, _parse_graph)
        if content is None:
            return {}
        try:
            return read_export(content)
        except NotAnExport as error:
            self.wrong(GRAPH_FILE, "", str(error))
            return {}

    def _load(self, file: str, parse: Callable[[str], Any]) -> Any:
        """The file's content; None where that was told already."""
        try:
            if (self._folder / file).stat().st_size > MAX_FILE_BYTES:
                self.wrong(file, "", f"is larger than {MAX_FILE_BYTES} bytes")
            else:
                return parse(_decoded((self._folder / file).read_bytes()))
        except UnicodeDecodeError as error:
            self.wrong(file, "", f"is no text in UTF-8 (byte {error.start}); save it as UTF-8")
        except OSError as error:
            self.wrong(file, "", f"can't be read: {error.strerror}")
        except NotAnExport as error:
            self.wrong(file, "", str(error))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            self.wrong(file, "", f"is not well-formed: {' '.join(str(error).split())}")
        return None

    def titles(self, graph: Graph, manifest: Manifest) -> dict[str, str]:
        """Title → node id, for those of the manifest's titles that one node has."""
        found = graphs.titles(graph)
        shared = {title: nodes for title in manifest.nodes if len(nodes := found.get(title, [])) > 1}
        for title, nodes in shared.items():
            what = (
                f"the nodes {' and '.join(nodes)} have this title; give each one of its own in the editor "
                "(double-click its name), and export again"
            )
            self.wrong(GRAPH_FILE, title, what)
        # One of those may be the node that another title is missing for.
        ambiguous = {graph[node_id]["class_type"] for nodes in shared.values() for node_id in nodes}
        result = {}
        for title, classes in manifest.nodes.items():
            match found.get(title, []):
                case [node_id]:
                    result[title] = node_id
                    if (actual := graph[node_id]["class_type"]) not in classes:
                        self.wrong(GRAPH_FILE, title, f"is a {actual}; the manifest says {' or '.join(classes)}")
                case [] if ambiguous.isdisjoint(classes):
                    what = f"the graph has no node with this title{near(title, found)}"
                    self.wrong(MANIFEST_FILE, f"nodes.{title}", what)
        return result

    def bindings(
        self, graph: Graph, manifest: Manifest, titles: dict[str, str], *, each: str | None = None
    ) -> tuple[Binding, ...]:
        """The bindings to fields; constants are written into the graph at once."""
        result = []
        for text, source in manifest.bind.items():
            place = self.place(f"bind.{text}", text, titles)
            if place:
                self._input_to_set(graph, place, text)
            if not isinstance(source, Constant):
                path, via = (source, None) if isinstance(source, str) else (source.from_, _transform(source))
                binding = self._binding(graph, place, text, path, via=via, each=each)
                result += [binding] if binding else []
            elif place:
                graph[place.node]["inputs"][place.name] = source.value
        return tuple(result)

    def _input_to_set(self, graph: Graph, place: Input, text: str) -> None:
        inputs = graph[place.node]["inputs"]
        if place.name not in inputs:
            what = f"the node has no such input; it has {', '.join(inputs)}{near(place.name, inputs)}"
            self.wrong(MANIFEST_FILE, f"bind.{text}", what)
        elif graphs.as_link(inputs[place.name]):
            self.wrong(MANIFEST_FILE, f"bind.{text}", "is fed by another node; bind that node's input instead")

    def _binding(
        self, graph: Graph, place: Input | None, text: str, path: str, *, via: str | Transform | None, each: str | None
    ) -> Binding | None:
        self.fields.append(path)
        if place is None:
            return None
        try:
            binding = bound(place, path, via=via, each=each)
        except ValueError as error:
            self.wrong(MANIFEST_FILE, f"bind.{text}", str(error))
            # Which field was meant is not known, so none can be called unread.
            self.fields += PICTURE_FIELDS
            return None
        if path in PICTURE_KEYS and (graph[place.node]["class_type"], place.name) != KEY_READER:
            what = f"only {'.'.join(KEY_READER)} reads {path}: a job's pictures are no files"
            self.wrong(MANIFEST_FILE, f"bind.{text}", what)
        return binding

    def place(self, where: str, text: str, titles: dict[str, str]) -> Input | None:
        title, _, name = text.rpartition(".")
        if title not in titles:
            if title not in self._titles:
                self.wrong(MANIFEST_FILE, where, f"{text} is not title.input of a title in `nodes`")
            return None
        return Input(titles[title], name)

    def link(self, where: str, text: str, titles: dict[str, str]) -> Link | None:
        title, _, output = text.rpartition(".")
        if title not in titles or not output.isdecimal():
            if title not in self._titles or not output.isdecimal():
                self.wrong(MANIFEST_FILE, where, f"{text} is not title.number of a title in `nodes`")
            return None
        return Link(titles[title], int(output))

    def dangling(self, graph: Graph) -> None:
        for place, link in graphs.dangling(graph):
            self.wrong(GRAPH_FILE, self.at(graph, place), f"comes from node {link.node}, which does not exist")

    def outputs(
        self, graph: Graph, outputs: frozenset[str], bindings: tuple[Binding, ...], ports: dict[str, Link]
    ) -> None:
        """The export's own output nodes are left out of every job, so nothing else may need them."""
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
        """A job without a value for a binding would fail, so every job that the entry is for must have one."""
        for binding in bindings:
            field = binding.field.partition(".")[0]
            if binding.optional and field not in given:
                those = " or ".join(sorted(feature.value for feature in COMES_WITH.get(field, ())))
                only = f", only those with {those}" if those else ""
                where = f"bind.{self.at(graph, binding.place, joint='.')}"
                self.wrong(MANIFEST_FILE, where, f"not every job has {binding.field}{only}")

    @staticmethod
    def at(graph: Graph, place: Input, *, joint: str = ":") -> str:
        """A node by its title, or its id without one, and the input."""
        return f"{graphs.title_of(graph, place.node)}{joint}{place.name}"


def _transform(ref: FieldRef) -> str | Transform | None:
    if ref.share is not None:
        return share_of(ref.share)
    return one_of(ref.if_true, ref.if_false) if ref.if_true is not None else ref.via


def near(word: str, words: Iterable[str]) -> str:
    """The end of a sentence that asks whether a similar word was meant; empty without one."""
    found = get_close_matches(word, [each for each in words if each], n=1)
    return f"; is {found[0]} meant?" if found else ""


def _decoded(data: bytes) -> str:
    """The text of a file, also as Windows' PowerShell writes it. Raises UnicodeDecodeError, NotAnExport."""
    if data.startswith((b"\x89PNG", b"RIFF", b"\xff\xd8\xff")):
        raise NotAnExport(f"is a picture; open it in ComfyUI's editor and {EXPORT_AGAIN}")
    return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")


def _parse_graph(text: str) -> Any:
    """JSON as ComfyUI takes it: without numbers that JSON does not have. Raises ValueError, RecursionError."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")
