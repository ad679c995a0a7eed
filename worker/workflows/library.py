"""Templates and fragments of our folder and of an owner's, which overlays it.

What is wrong with one of them switches that one off, with the reason; the rest goes on serving.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import worker
from worker.errors import TemplateError
from worker.workflows.template_reader import GRAPH_FILE, MANIFEST_FILE, BrokenEntry, read_fragment, read_template
from worker.workflows.templates import Fragment, LibraryEntry, Template

FRAGMENTS = "fragments"

P = TypeVar("P", Template, Fragment)


def packaged_folder() -> Path:
    """The templates that come with the worker."""
    return Path(worker.__file__).parents[1] / "comfy_workflows"


@dataclass(frozen=True)
class Library:
    """All that can be spliced together. `disabled`: name → why it is switched off."""

    #: in the order in which they are tried
    templates: tuple[Template, ...]
    #: in the order in which they are spliced
    fragments: tuple[Fragment, ...]
    disabled: Mapping[str, str] = field(default_factory=dict)
    #: everything that is wrong, as `file:node:input: what`
    violations: tuple[str, ...] = ()
    #: what could be read of pieces that are wrong
    broken: tuple[LibraryEntry, ...] = ()

    @classmethod
    def load(cls, *folders: Path, approved_classes: Collection[str] = ()) -> "Library":
        """Read the folders; in later ones a template or fragment of the same name replaces the earlier one's.

        The first folder is ours. What the others bring may use its node classes and the approved ones only.
        Raises TemplateError when a folder does not exist.
        """
        found: dict[str, tuple[int, Template | Fragment | BrokenEntry]] = {}
        known = set(approved_classes)
        for number, folder in enumerate(folders or (packaged_folder(),)):
            for name, path in _pieces(folder):
                # A broken overlay takes its place too: it must not silently leave the one below in charge.
                found[name] = number, _read(path, name, approved=known if number else None)
            if not number:
                known.update(*(piece.classes for _, piece in found.values() if isinstance(piece, LibraryEntry)))

        templates = [(number, piece) for number, piece in found.values() if isinstance(piece, Template)]
        fragments = [piece for _, piece in found.values() if isinstance(piece, Fragment)]
        wrong = {name: piece for name, (_, piece) in found.items() if isinstance(piece, BrokenEntry)}
        # A template for a named model goes before one for its family, an owner's before ours.
        templates.sort(key=lambda entry: (not entry[1].manifest.serves.models, -entry[0], entry[1].name))
        return cls(
            templates=tuple(template for _, template in templates),
            fragments=tuple(sorted(fragments, key=lambda fragment: (fragment.manifest.order, fragment.name))),
            disabled={name: "; ".join(error.violations) for name, error in wrong.items()},
            violations=tuple(violation for error in wrong.values() for violation in error.violations),
            broken=tuple(error.piece for error in wrong.values() if error.piece is not None),
        )

    def without(self, findings: Mapping[str, Sequence[str]]) -> "Library":
        """The same library with the pieces that an audit found fault with switched off."""
        reasons = {name: "; ".join(sentences) for name, sentences in findings.items() if sentences}
        return replace(
            self,
            templates=_left(self.templates, reasons),
            fragments=_left(self.fragments, reasons),
            disabled={**self.disabled, **reasons},
        )


def _left(pieces: tuple[P, ...], reasons: Mapping[str, str]) -> tuple[P, ...]:
    return tuple(piece for piece in pieces if piece.name not in reasons)


def _pieces(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and folders of everything below, in a fixed order; one of the two files makes a piece."""
    if not folder.is_dir():
        raise TemplateError(f"{folder} is no folder of workflows.", remedy="Correct workflows_dir, or make the folder.")
    found = {path.parent for file in (MANIFEST_FILE, GRAPH_FILE) for path in folder.glob(f"*/*/{file}")}
    for path in sorted(found):
        yield path.relative_to(folder).as_posix(), path


def _read(path: Path, name: str, *, approved: Collection[str] | None) -> Template | Fragment | BrokenEntry:
    """The piece, or what is wrong with it. `approved`: the node classes it may use; None for any."""
    read = read_fragment if name.startswith(f"{FRAGMENTS}/") else read_template
    try:
        piece: LibraryEntry | None = (good := read(path, name))
        violations: tuple[str, ...] = ()
    except BrokenEntry as error:
        good, piece, violations = None, error.piece, error.violations
    if piece is not None and approved is not None:
        # The export's own output nodes are never run: ours takes their place.
        unused = piece.outputs if isinstance(piece, Template) else frozenset()
        violations += tuple(
            f"{name}/{GRAPH_FILE}:{node.get('_meta', {}).get('title') or node_id}: {node['class_type']} is not an "
            "approved node class; if you trust it, add it to approved_node_classes"
            for node_id, node in piece.graph.items()
            if node["class_type"] not in approved and node_id not in unused
        )
    if good is not None and not violations:
        return good
    return BrokenEntry(f"{name} can't be used:", violations=violations, piece=piece)
