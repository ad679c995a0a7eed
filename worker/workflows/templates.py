"""Template and Fragment as the library holds them: checked, titles resolved to node ids, bindings compiled."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from worker.workflows.bind import PICTURE_FIELDS, STAND_INS, Binding
from worker.workflows.graph import Graph, Input, Link
from worker.workflows.manifest import FragmentManifest, TemplateManifest
from worker.workflows.request import RenderRequest
from worker.workflows.types import Feature

#: The port of the finished pictures: every template has it, and the output fragment takes it.
IMAGE_PORT = "image"
FILE_FIELDS = "model.files."


@dataclass(frozen=True)
class LibraryEntry:
    """What templates and fragments have in common: a graph, which is never changed, and its bindings."""

    name: str
    graph: Graph
    bindings: tuple[Binding, ...]

    @property
    def classes(self) -> frozenset[str]:
        return frozenset(node["class_type"] for node in self.graph.values())


@dataclass(frozen=True)
class Template(LibraryEntry):
    """A whole graph, from the loaders to the finished pictures."""

    manifest: TemplateManifest
    ports: Mapping[str, Link]
    #: ids of the export's own output nodes, which are left out of every job's graph
    outputs: frozenset[str]
    #: purposes of the model files that the graph loads
    files: frozenset[str]

    def ignores(self, feature: Feature) -> bool:
        return feature.value in self.manifest.ignores


@dataclass(frozen=True)
class Fragment(LibraryEntry):
    """A small graph that is spliced into a template's graph at its ports."""

    manifest: FragmentManifest
    takes: Mapping[str, tuple[Input, ...]]
    gives: Mapping[str, Link | str]

    @property
    def when(self) -> Feature:
        return self.manifest.when

    def items(self, request: RenderRequest) -> tuple[object, ...]:
        """One element of the request for each instance of the fragment; one None where it has no `each`."""
        return getattr(request, self.manifest.each) if self.manifest.each else (None,)

    def ids(self, number: int) -> dict[str, str]:
        """Node ids of an instance, counted from 1. The same for every job, so that ComfyUI's cache is used."""
        stem = f"{self.name.rpartition('/')[2]}-{number}"
        if len(self.graph) == 1:
            return dict.fromkeys(self.graph, stem)
        return {node_id: f"{stem}-{node['_meta']['title']}" for node_id, node in self.graph.items()}


def unread_fields(read: Iterable[str], ignored: Iterable[str]) -> list[str]:
    """Fields of every request that are not among those read, and that `ignores` does not list."""
    read = {STAND_INS.get(field, field) for field in read} | set(ignored)
    return [field for field in PICTURE_FIELDS if field not in read]


def files_read(bindings: Iterable[Binding]) -> frozenset[str]:
    return frozenset(
        binding.field.removeprefix(FILE_FIELDS) for binding in bindings if binding.field.startswith(FILE_FIELDS)
    )
