"""Every template filled in for every kind of job that it serves, to find mistakes of whole graphs. Renders nothing."""

from collections.abc import Iterator
from dataclasses import replace

from worker.errors import JobNotServable, TemplateError
from worker.workflows.audit import audit_graph, for_these_nodes
from worker.workflows.capabilities import Ability, Probe, probes_for
from worker.workflows.families import TRAITS
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.node_classes import ObjectInfo
from worker.workflows.request import RenderRequest, ServedModel
from worker.workflows.template_reader import GRAPH_FILE
from worker.workflows.template_selection import select
from worker.workflows.templates import Template
from worker.workflows.types import Dialect, Family


def rehearse(library: Library, object_info: ObjectInfo) -> list[str]:
    """The mistakes, as `file:node:input: what`; one that several templates share is told of the first."""
    found: dict[str, str] = {}
    for template in for_these_nodes(library, object_info):
        alone = replace(library, templates=(template,))
        for request in _requests(template):
            for sentence in _faults(alone, request, object_info):
                found.setdefault(sentence, template.name)
    return [f"{name}/{GRAPH_FILE}:{sentence}" for sentence, name in found.items()]


def _requests(template: Template) -> Iterator[RenderRequest]:
    serves = template.manifest.serves
    for family in serves.families or Family:
        for inpainting in (False, True) if TRAITS[family].fills_grey else (False,):
            files = dict.fromkeys(template.files, "any")
            model = ServedModel(next(iter(serves.models), "any"), family, files, inpainting)
            for ability in Ability:
                yield from (probe.request(model) for probe in probes_for(ability, model))
            yield from (Probe({"workflow": workflow}).request(model) for workflow in serves.workflows)


def _faults(library: Library, request: RenderRequest, object_info: ObjectInfo) -> Iterator[str]:
    try:
        selection = select(library, request)
    except JobNotServable:
        return
    for dialect in Dialect:
        if not selection.missing(dialect):
            try:
                yield from audit_graph(materialise(selection, request, dialect=dialect).graph, object_info)
            except TemplateError as error:
                yield " ".join(error.message.splitlines())
