"""Templates and fragments of our folder, overlaid by those of an owner's folder.

A mistake in one of them switches that one off, with the reason; the others go on serving.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from worker.errors import TemplateError
from worker.workflows import families, packaged_folder
from worker.workflows.auxiliary_files import odd_control_types
from worker.workflows.graph import title_of
from worker.workflows.node_classes import choices_of, snapshot
from worker.workflows.samplers import odd_schedulers
from worker.workflows.template_reader import GRAPH_FILE, MANIFEST_FILE, BrokenEntry, read_fragment, read_template
from worker.workflows.templates import Fragment, LibraryEntry, Template
from worker.workflows.types import Family

FRAGMENTS = "fragments"
#: Parts of the path of a template's file below its folder: family, name, file.
DEPTH = 3
#: Files of an owner's folder that are looked at, so that a wrong folder (a home directory) takes no minutes.
MAX_FILES = 2000

P = TypeVar("P", Template, Fragment)


@dataclass(frozen=True)
class Library:
    """All templates and fragments. `disabled`: name → why it is switched off."""

    #: in the order in which they are tried
    templates: tuple[Template, ...]
    #: in the order in which they are spliced
    fragments: tuple[Fragment, ...]
    disabled: Mapping[str, str] = field(default_factory=dict)
    #: every mistake, as `file:node:input: what`, and files of an owner's that are not read
    violations: tuple[str, ...] = ()
    #: what could be read of entries with mistakes
    broken: tuple[LibraryEntry, ...] = ()
    #: family whose models the engine can't run → why
    unserved: Mapping[Family, str] = field(default_factory=dict)
    #: samplers and schedulers that the engine lists: at first those of the pinned one with our nodes
    samplers: frozenset[str] = frozenset()
    schedulers: frozenset[str] = frozenset()

    @classmethod
    def load(cls, *folders: Path, approved_classes: Collection[str] = ()) -> "Library":
        """Read the folders; in later ones a template or fragment of the same name replaces the earlier one's.

        The first folder is ours. What the others bring may use its node classes and the approved ones only.
        Raises TemplateError when a folder does not exist.
        """
        found: dict[str, tuple[int, Template | Fragment | BrokenEntry]] = {}
        known = set(approved_classes)
        unread: list[str] = []
        for number, folder in enumerate(folders or (packaged_folder(),)):
            unread += [*families.load(folder), *odd_control_types(), *odd_schedulers()] if number else []
            for name, path in _entries(folder):
                # A broken overlay takes its place too, so that it does not silently leave the one below in charge.
                found[name] = number, _read(path, name, approved=known if number else None)
            if number:
                unread += _unread(folder)
            else:
                known.update(*(entry.classes for _, entry in found.values() if isinstance(entry, LibraryEntry)))

        templates = [(number, entry) for number, entry in found.values() if isinstance(entry, Template)]
        fragments = [entry for _, entry in found.values() if isinstance(entry, Fragment)]
        wrong = {name: entry for name, (_, entry) in found.items() if isinstance(entry, BrokenEntry)}
        # A template for a named model goes before one for its family, an owner's before ours.
        templates.sort(key=lambda entry: (not entry[1].manifest.serves.models, -entry[0], entry[1].name))
        return cls(
            templates=tuple(template for _, template in templates),
            fragments=tuple(sorted(fragments, key=lambda fragment: (fragment.manifest.order, fragment.name))),
            disabled={name: "; ".join(error.violations) for name, error in wrong.items()},
            violations=(*(violation for error in wrong.values() for violation in error.violations), *unread),
            broken=tuple(error.entry for error in wrong.values() if error.entry is not None),
            samplers=choices_of(snapshot(), "KSampler", "sampler_name"),
            schedulers=choices_of(snapshot(), "KSampler", "scheduler"),
        )

    def without(self, findings: Mapping[str, Sequence[str]]) -> "Library":
        """The same library without the entries that an audit found mistakes in."""
        reasons = {name: "; ".join(sentences) for name, sentences in findings.items() if sentences}
        return replace(
            self,
            templates=_left(self.templates, reasons),
            fragments=_left(self.fragments, reasons),
            disabled={**self.disabled, **reasons},
        )

    @property
    def beyond(self) -> "Library":
        """The same with only those templates that are for families which the engine can't run."""
        wanted = ((template, template.manifest.serves.families) for template in self.templates)
        beyond = (template for template, families in wanted if families and self.unserved.keys() >= set(families))
        return replace(self, templates=tuple(beyond), broken=(), violations=())


def _left(entries: tuple[P, ...], reasons: Mapping[str, str]) -> tuple[P, ...]:
    return tuple(entry for entry in entries if entry.name not in reasons)


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and folders of everything below, in a fixed order; one of the two files makes a entry."""
    if not folder.is_dir():
        raise TemplateError(f"{folder} is no folder of workflows.", remedy="Correct workflows_dir, or make the folder.")
    found = {path.parent for file in (MANIFEST_FILE, GRAPH_FILE) for path in folder.glob(f"*/*/{file}")}
    for path in sorted(found):
        yield path.relative_to(folder).as_posix(), path


def _unread(folder: Path) -> Iterator[str]:
    """Files of an owner's folder that look like parts of a template but lie elsewhere or have other names."""
    names = {MANIFEST_FILE, GRAPH_FILE}
    places = sorted(path.relative_to(folder) for path in itertools.islice(folder.rglob("*"), MAX_FILES))
    has_families = any(place.parts[0] == families.FOLDER and place.suffix == ".yaml" for place in places)
    if not has_families and not any(place.name in names and len(place.parts) == DEPTH for place in places):
        yield f"{folder}: holds no template; one is {GRAPH_FILE} and {MANIFEST_FILE} in a folder own/name"
    for place in places:
        if place.name in names:
            if len(place.parts) != DEPTH:
                yield f"{place.as_posix()}: is not read; a template lies two folders deep, as in own/name/{place.name}"
        elif place.stem == "manifest" and place.suffix in {".yml", ".yaml", ".json"}:
            yield f"{place.as_posix()}: is not read; its name must be {MANIFEST_FILE}"
        elif place.suffix == ".json" and len(place.parts) > 1 and place.with_name(GRAPH_FILE) not in places:
            yield f"{place.as_posix()}: is not read; a graph's name must be {GRAPH_FILE}"


def _read(path: Path, name: str, *, approved: Collection[str] | None) -> Template | Fragment | BrokenEntry:
    """The entry, or what is wrong with it. `approved`: the node classes it may use; None for any."""
    read = read_fragment if name.startswith(f"{FRAGMENTS}/") else read_template
    try:
        entry: LibraryEntry | None = (good := read(path, name))
        violations: tuple[str, ...] = ()
    except BrokenEntry as error:
        good, entry, violations = None, error.entry, error.violations
    if entry is not None and approved is not None:
        # The export's own output nodes are never run: ours takes their place.
        unused = entry.outputs if isinstance(entry, Template) else frozenset()
        violations += tuple(
            f"{name}/{GRAPH_FILE}:{title_of(entry.graph, node_id)}: {node['class_type']} is not an "
            "approved node class; if you trust it, add it to approved_node_classes"
            for node_id, node in entry.graph.items()
            if node["class_type"] not in approved and node_id not in unused
        )
    if good is not None and not violations:
        return good
    return BrokenEntry(f"{name} can't be used:", violations=violations, entry=entry)
