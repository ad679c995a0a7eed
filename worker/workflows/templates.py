"""A template and a fragment as the library holds them: checked, titles resolved to node ids, bindings compiled."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from worker.workflows.bind import PICTURE_FIELDS, STAND_INS, Binding
from worker.workflows.features import Feature
from worker.workflows.graph import Graph, Input, Link
from worker.workflows.manifest import FragmentManifest, TemplateManifest
from worker.workflows.request import RenderRequest

#: Where finished pictures come from: every template has it, and the output fragment takes it.
IMAGE_PORT = "image"
FILE_FIELDS = "model.files."


@dataclass(frozen=True)
class Piece:
    """What templates and fragments have in common. `graph` is never changed."""

    name: str
    graph: Graph
    bindings: tuple[Binding, ...]

    @property
    def classes(self) -> frozenset[str]:
        return frozenset(node["class_type"] for node in self.graph.values())


@dataclass(frozen=True)
class Template(Piece):
    """A whole graph, from the loaders to the pictures."""

    manifest: TemplateManifest
    ports: Mapping[str, Link]
    #: ids of the export's own output nodes
    outputs: frozenset[str]
    #: purposes of the model's files that the graph loads
    files: frozenset[str]

    def ignores(self, feature: Feature) -> bool:
        return feature.value in self.manifest.ignores


@dataclass(frozen=True)
class Fragment(Piece):
    """A piece that is spliced into a template's graph at its ports."""

    manifest: FragmentManifest
    takes: Mapping[str, tuple[Input, ...]]
    gives: Mapping[str, Link | str]

    @property
    def when(self) -> Feature:
        return self.manifest.when

    def items(self, request: RenderRequest) -> tuple[object, ...]:
        """One element for each instance."""
        return getattr(request, self.manifest.each) if self.manifest.each else (None,)

    def ids(self, number: int) -> dict[str, str]:
        """Node ids of an instance, counted from 1: the same for every job, so that ComfyUI's cache holds."""
        stem = f"{self.name.rpartition('/')[2]}-{number}"
        if len(self.graph) == 1:
            return dict.fromkeys(self.graph, stem)
        return {node_id: f"{stem}-{node['_meta']['title']}" for node_id, node in self.graph.items()}


def unread_fields(bindings: Iterable[Binding], ignored: Iterable[str]) -> list[str]:
    """Fields of every picture that no binding reads and nobody declared ignored."""
    read = {STAND_INS.get(binding.field, binding.field) for binding in bindings} | set(ignored)
    return [field for field in PICTURE_FIELDS if field not in read]


def files_read(bindings: Iterable[Binding]) -> frozenset[str]:
    return frozenset(
        binding.field.removeprefix(FILE_FIELDS) for binding in bindings if binding.field.startswith(FILE_FIELDS)
    )
