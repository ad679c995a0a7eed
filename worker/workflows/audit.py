"""Graphs, templates and fragments against the node classes of an engine: its /object_info, or our snapshot of it.

Every audit returns all mistakes, as sentences that begin with the place, `node:input: what`. A mistake is what ComfyUI
would refuse, or run otherwise than the author meant; what it ignores or converts is a remark.
"""

from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from worker.workflows.auxiliary_files import all_files
from worker.workflows.families import FOLDER, TRAITS, EngineNeeds, is_for
from worker.workflows.graph import PINNED, Graph, Input, Link, as_link, circle, title_of
from worker.workflows.library import Library
from worker.workflows.node_classes import (
    ANY_TYPE,
    PINNED_VERSION,
    InputSpec,
    ObjectInfo,
    choices_of,
    conversion,
    declared_inputs,
    fits,
    input_of,
    snapshot,
    value_problem,
    version_numbers,
)
from worker.workflows.template_reader import GRAPH_FILE, MANIFEST_FILE
from worker.workflows.templates import Fragment, LibraryEntry, Template
from worker.workflows.types import Family

#: Port → its type.
PORT_TYPES = {
    "model": "MODEL", "clip": "CLIP", "vae": "VAE", "positive": "CONDITIONING", "negative": "CONDITIONING",
    "latent": "LATENT", "sampled": "LATENT", "image": "IMAGE", "source": "IMAGE", "mask": "MASK",
    "hint": "IMAGE",
    "shifted_model": "MODEL",
    "clip_vision": "CLIP_VISION", "source_vae": "VAE", "decoder_model": "MODEL",
    "decoder_text": "CONDITIONING", "decoder_negative": "CONDITIONING",
}  # fmt: skip

#: Type of a binding's values → the widgets that take them.
WIDGETS = {
    bool: {"BOOLEAN"},
    int: {"INT", "FLOAT"},
    float: {"FLOAT"},
    str: {"STRING", "COMBO"},
}


class NamedFile(NamedTuple):
    """A file that a graph names as a constant."""

    #: node and input
    place: str
    class_type: str
    input: str
    file: str

    @property
    def text(self) -> str:
        """The folder, where it follows from the input's name, and the file; for messages."""
        folder = MODEL_FOLDERS.get(self.input, ("",))[0]
        return f"{folder}/{self.file}" if folder else self.file


#: Input of a loader → ComfyUI's names of the folders that hold its files.
MODEL_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "ckpt_name": ("checkpoints",), "unet_name": ("diffusion_models",), "lora_name": ("loras",),
    "vae_name": ("vae",), "control_net_name": ("controlnet",), "style_model_name": ("style_models",),
    "gligen_name": ("gligen",), "hypernetwork_name": ("hypernetworks",), "photomaker_model_name": ("photomaker",),
    **{f"clip_name{number}": ("text_encoders", "clip_vision") for number in ("", 1, 2, 3, 4)},
    "image": ("input",),
}  # fmt: skip


def files_named(entry: LibraryEntry, but_for: Container[str]) -> list[NamedFile]:
    """The files that an entry names as constants."""
    free = _unchecked(entry)
    return [
        NamedFile(f"{title_of(entry.graph, node_id)}:{name}", node["class_type"], name, value)
        for node_id, node in entry.graph.items()
        if (info := snapshot().get(node["class_type"])) and not _is_output_of(entry, node_id)
        for name, spec in declared_inputs(info).items()
        if spec.is_file
        and isinstance(value := node["inputs"].get(name), str)
        and value not in but_for
        and Input(node_id, name) not in free
    ]


def own_classes(library: Library) -> ObjectInfo:
    """Our snapshot, with the classes that only an owner's own ComfyUI can know."""
    classes = {name for entry in (*library.templates, *library.fragments, *library.broken) for name in entry.classes}
    return {**dict.fromkeys(sorted(classes - snapshot().keys())), **snapshot()}


def files_absent(library: Library, has: Callable[[NamedFile], bool]) -> dict[str, list[str]]:
    """Name of each entry that names files which are not there → what it needs, one sentence for each.

    Without files that the worker fetches by itself.
    """
    fetched = {file.name for file in all_files()}
    found = {
        entry.name: [
            f"{each.place}: needs {each.text}, not here" for each in files_named(entry, fetched) if not has(each)
        ]
        for entry in (*library.templates, *library.fragments)
    }
    return {name: sentences for name, sentences in found.items() if sentences}


def is_listed(object_info: ObjectInfo, named: NamedFile) -> bool:
    """Whether an engine lists the file among the choices of its input; True where it tells no choices."""
    spec = input_of(object_info, named.class_type, named.input)
    return spec is None or spec.choices is None or named.file in spec.choices


def suited(library: Library, object_info: ObjectInfo, version: str = PINNED_VERSION) -> Library:
    """The same library for an engine with these node classes, of this version of ComfyUI: it knows which families the
    engine can't run.
    """
    reasons = {
        family: _lacks(traits.needs, object_info) or _is_older(traits.needs, version)
        for family, traits in TRAITS.items()
    }
    return replace(
        library,
        unserved={family: reason for family, reason in reasons.items() if reason},
        samplers=choices_of(object_info, "KSampler", "sampler_name"),
        schedulers=choices_of(object_info, "KSampler", "scheduler"),
    )


def suited_to_all(library: Library, engines: Sequence[tuple[str, ObjectInfo]]) -> Library:
    """The same library for several engines, each by its version and node classes: what one can't run, none is given."""
    fits = [suited(library, object_info, version) for version, object_info in engines]
    unserved = {family: reason for each in fits for family, reason in each.unserved.items()}
    return replace(
        library,
        unserved=unserved,
        samplers=frozenset.intersection(*(each.samplers for each in fits)) if fits else library.samplers,
        schedulers=frozenset.intersection(*(each.schedulers for each in fits)) if fits else library.schedulers,
    )


def for_these_nodes(library: Library, object_info: ObjectInfo) -> tuple[Template, ...]:
    """The templates to hold against these node classes: others are for families that need nodes which are not here."""
    return tuple(
        template
        for template in library.templates
        if not (families := template.manifest.serves.families)
        or any(not _lacks(TRAITS[family].needs, object_info) for family in families)
    )


def _is_older(needs: EngineNeeds, version: str) -> str:
    """How an engine's version falls short of what a family needs; "" where it does not."""
    if not needs.comfyui or version_numbers(version) >= version_numbers(needs.comfyui):
        return ""
    return f"it needs ComfyUI {needs.comfyui} or newer, and the engine is {version or 'of an unknown version'}"


def _lacks(needs: EngineNeeds, object_info: ObjectInfo) -> str:
    """What an engine lacks of the nodes that a family needs; "" for nothing."""
    for name in needs.nodes:
        if name not in object_info:
            return f"the engine has no node class {name}"
    for place, choices in needs.choices.items():
        node, _, name = place.partition(".")
        spec = input_of(object_info, node, name)
        for choice in choices:
            if spec is None or (spec.choices is not None and choice not in spec.choices):
                return f"the engine's {place} has no {choice}"
    return ""


def audit_library(library: Library, object_info: ObjectInfo) -> dict[str, list[str]]:
    """Name of each template and fragment → its mistakes; an empty list for none."""
    entries = (*for_these_nodes(library, object_info), *library.fragments)
    return {entry.name: [*_audit_nodes(entry, object_info), *_audit_manifest(entry, object_info)] for entry in entries}


def everything_wrong(library: Library, object_info: ObjectInfo) -> list[str]:
    """The mistakes of every entry, usable or not, each once, as `file:node:input: what`."""
    found = list(library.violations)
    for entry in (*for_these_nodes(library, object_info), *library.fragments, *library.broken):
        found += [f"{entry.name}/{GRAPH_FILE}:{sentence}" for sentence in _audit_nodes(entry, object_info)]
        found += [f"{entry.name}/{MANIFEST_FILE}:{sentence}" for sentence in _audit_manifest(entry, object_info)]
    return list(dict.fromkeys(found))


def audit_graph(graph: Graph, object_info: ObjectInfo, *, unchecked: Collection[Input] = ()) -> list[str]:
    """What ComfyUI would refuse or misread in a graph. `unchecked`: inputs that get their value later."""
    found = [
        f"{title_of(graph, node_id)}:{sentence}"
        for node_id in graph
        for sentence in _audit_node(graph, node_id, object_info, unchecked)
    ]
    if waiting := circle(graph):
        # ComfyUI refuses such a graph without saying why.
        found.append(f"{waiting[0]}:: {' and '.join(waiting)} wait for one another")
    return found


def remarks(library: Library, object_info: ObjectInfo) -> list[str]:
    """What ComfyUI ignores or converts in the graphs, node classes that can't be checked yet, and families that have no
    template.
    """
    found = [
        f"{entry.name}/{GRAPH_FILE}:{title_of(entry.graph, node_id)}:{sentence}"
        for entry in (*for_these_nodes(library, object_info), *library.fragments)
        for node_id in entry.graph
        if not _is_output_of(entry, node_id)
        for sentence in _remarks_on(entry, node_id, object_info)
    ]
    serving = [each.manifest.serves for each in library.templates]
    plain = [serves.families for serves in serving if not serves.workflows and not serves.features]
    return found + [
        f"{FOLDER}/{family.value}.yaml:: no template serves this family, so no model of it is offered"
        for family in Family
        if not any(not named or is_for(named, family) for named in plain)
    ]


def _remarks_on(entry: LibraryEntry, node_id: str, object_info: ObjectInfo) -> Iterator[str]:
    node, free = entry.graph[node_id], _unchecked(entry)
    info = object_info.get(node["class_type"])
    if info is None:
        if node["class_type"] in object_info:
            yield f": {node['class_type']} is unknown to stock ComfyUI; it is checked when your engine starts"
        return
    specs = declared_inputs(info)
    for name, value in node["inputs"].items():
        if Input(node_id, name) in free or as_link(value):
            continue
        if name not in specs:
            yield f"{name}: {node['class_type']} has no such input and ignores it"
        elif value_problem(value, specs[name]) is None and (remark := conversion(value, specs[name])):
            yield f"{name}: {remark}"


def _unchecked(entry: LibraryEntry) -> set[Input]:
    """Inputs that get their value with the job."""
    fed = [place for places in entry.takes.values() for place in places] if isinstance(entry, Fragment) else []
    return {*fed, *(binding.place for binding in entry.bindings)}


def _is_output_of(entry: LibraryEntry, node_id: str) -> bool:
    """The export's own output nodes never run."""
    return isinstance(entry, Template) and node_id in entry.outputs


def _audit_node(graph: Graph, node_id: str, object_info: ObjectInfo, unchecked: Collection[Input]) -> Iterator[str]:
    class_type = graph[node_id]["class_type"]
    if class_type not in object_info:
        yield f": the engine has no node class {class_type}"
    elif info := object_info[class_type]:
        yield from _audit_inputs(graph, node_id, info, object_info, unchecked)


def _audit_inputs(
    graph: Graph,
    node_id: str,
    info: Mapping[str, Any],
    object_info: ObjectInfo,
    unchecked: Collection[Input],
) -> Iterator[str]:
    node = graph[node_id]
    specs = declared_inputs(info)
    for name, spec in specs.items():
        if spec.required and name not in node["inputs"] and Input(node_id, name) not in unchecked:
            yield f"{name}: {node['class_type']} needs this input"
    for name, value in node["inputs"].items():
        if name not in specs:
            # ComfyUI ignores a value that it has no input for; a link it follows, and then the node fails.
            if as_link(value) or Input(node_id, name) in unchecked:
                yield f"{name}: {node['class_type']} has no such input"
        elif link := as_link(value):
            if Input(node_id, name) not in unchecked and (
                problem := _check_link(graph, link, specs[name], object_info)
            ):
                yield f"{name}: {problem}"
        elif Input(node_id, name) not in unchecked and (problem := value_problem(value, specs[name])):
            yield f"{name}: {problem}"


def _audit_nodes(entry: LibraryEntry, object_info: ObjectInfo) -> list[str]:
    return audit_graph(entry.graph, object_info, unchecked=_unchecked(entry))


def _audit_manifest(entry: LibraryEntry, object_info: ObjectInfo) -> list[str]:
    return [*_audit_bindings(entry, object_info), *_audit_ports(entry, object_info)]


def _audit_bindings(entry: LibraryEntry, object_info: ObjectInfo) -> Iterator[str]:
    for binding in entry.bindings:
        spec = input_of(object_info, entry.graph[binding.place.node]["class_type"], binding.place.name)
        if spec is None:
            continue
        where = f"{entry.graph[binding.place.node]['_meta']['title']}:{binding.place.name}"
        if spec.kind not in WIDGETS[binding.kind]:
            yield f"{where}: takes {spec.kind}, but is bound to {binding.kind.__name__}"


def _audit_ports(entry: LibraryEntry, object_info: ObjectInfo) -> Iterator[str]:
    ports = entry.ports if isinstance(entry, Template) else entry.gives if isinstance(entry, Fragment) else {}
    for port, source in ports.items():
        if isinstance(source, Link):
            wanted = InputSpec(PORT_TYPES.get(port, ANY_TYPE), required=True, options={}, choices=None)
            if problem := _check_link(entry.graph, source, wanted, object_info):
                yield f"port {port}: {problem}"
    if isinstance(entry, Fragment):
        for port, places in entry.takes.items():
            for place in places:
                class_type = entry.graph[place.node]["class_type"]
                spec = input_of(object_info, class_type, place.name)
                wanted_type = PORT_TYPES.get(port.removeprefix(PINNED), ANY_TYPE)
                if spec is None and class_type in object_info:
                    yield f"port {port}: {class_type} has no input {place.name}"
                elif spec is not None and not fits(wanted_type, spec.kind):
                    yield f"port {port}: carries {wanted_type}, but {place.name} takes {spec.kind}"


def _check_link(graph: Graph, link: Link, spec: InputSpec, object_info: ObjectInfo) -> str | None:
    source = graph.get(link.node)
    if source is None:
        return f"comes from node {link.node}, which does not exist"
    class_info = object_info.get(source["class_type"])
    if class_info is None:
        return None  # told where that node itself is audited
    outputs = class_info["output"]
    if link.output >= len(outputs):
        return f"{source['class_type']} has no output {link.output}, only {len(outputs)}"
    given = outputs[link.output]
    given = "COMBO" if isinstance(given, list) else given
    return None if fits(given, spec.kind) else f"takes {spec.kind}, but {source['class_type']} gives {given}"
