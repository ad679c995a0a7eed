"""Which template serves a request, with which fragments; and why each other template does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.errors import JobNotServable
from worker.untrusted.text import visible
from worker.workflows.auxiliary_files import ANNOTATORS
from worker.workflows.families import is_for, lineage
from worker.workflows.features import OPTIONAL, features_of
from worker.workflows.graph import with_pinned
from worker.workflows.library import Library
from worker.workflows.request import RenderRequest
from worker.workflows.templates import Fragment, LibraryEntry, Template
from worker.workflows.types import Dialect, Feature

#: Templates that a sentence names at most, of those that lack equally little.
MOST_NEAREST = 2
#: Characters of why a template is switched off, in a sentence about something else.
MOST_OF_A_REASON = 120

#: Whether it is for something else, the number of reasons, the template's name, the reasons.
_Rejected = tuple[bool, int, str, Sequence[str]]


@dataclass(frozen=True)
class Selection:
    """A template and the fragments to splice into it, in order, for each dialect."""

    template: Template
    fragments: Mapping[Dialect, tuple[Fragment, ...]]
    #: samplers and schedulers of the engine; empty where they are not known
    samplers: frozenset[str] = frozenset()
    schedulers: frozenset[str] = frozenset()

    @property
    def entries(self) -> tuple[LibraryEntry, ...]:
        """The template and the fragments of every dialect."""
        return self.template, *(fragment for fragments in self.fragments.values() for fragment in fragments)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries; different for every other selection from the same library."""
        return tuple(entry.name for entry in self.entries)

    @property
    def features(self) -> frozenset[Feature]:
        """The features that fragments add, in any dialect."""
        return frozenset(entry.when for entry in self.entries if isinstance(entry, Fragment))

    def missing(self, dialect: Dialect) -> frozenset[Feature]:
        """Features that no fragment adds in this dialect."""
        return self.features - {each.when for each in self.fragments[dialect]} - OPTIONAL

    @property
    def renders_batches(self) -> bool:
        """False for a template that ignores the batch: its images are rendered one by one."""
        return "batch" not in self.template.manifest.ignores

    @property
    def does_without(self) -> frozenset[Feature]:
        """Features that are done in the template's own way, or not at all, so that none of our files is needed."""
        without = {Feature.TRANSPARENT, Feature.FACE_FIX, Feature.UPSCALE, Feature.STRIP_BACKGROUND} - self.features
        if not any(binding.field == "control_file" for entry in self.entries for binding in entry.bindings):
            without.add(Feature.CONTROL)
        if not any("HordeAnnotator" in entry.classes for entry in self.entries):
            without.add(Feature.ANNOTATE)
        return frozenset(without)


@dataclass(frozen=True)
class TemplateMatch:
    """Whether one template serves a request; `reasons` say why not."""

    template: str
    reasons: tuple[str, ...] = ()

    @property
    def serves(self) -> bool:
        return not self.reasons


def select(library: Library, request: RenderRequest) -> Selection:
    """The first template that serves the request. Raises JobNotServable with what the nearest one lacks."""
    rejected: list[_Rejected] = []
    features = features_of(request)
    for template in library.templates:
        selection, reasons = _select(library, template, request, features)
        if not reasons:
            return selection
        if _is_for(template, request):
            rejected.append((_is_special(template, request, features), len(reasons), template.name, reasons))
    raise JobNotServable(
        f"No workflow serves {request.model.name} ({request.model.family.value}, {request.mode.value}): "
        f"{_why(rejected, library.disabled)}.",
        remedy="`horde-bridge workflows explain JOB.json` lists every template with its reasons.",
    )


def _is_special(template: Template, request: RenderRequest, features: frozenset[Feature]) -> bool:
    """Whether the template is for something that the request does not ask for at all."""
    serves = template.manifest.serves
    return not features.issuperset(serves.features) or bool(serves.workflows and not request.workflow)


def _why(rejected: Sequence[_Rejected], disabled: Mapping[str, str]) -> str:
    """The end of a sentence: what the templates lack that lack least, and what is switched off."""
    # Of equals the first ones, which are tried before the others.
    nearest = sorted(rejected, key=lambda each: each[:2])[:MOST_NEAREST]
    parts = [f"{name}: {' and '.join(reasons)}" for *kind, name, reasons in nearest if kind == [*nearest[0][:2]]]
    if disabled:
        name, reason = next(iter(disabled.items()))
        others = f" and {len(disabled) - 1} more" if len(disabled) > 1 else ""
        parts.append(f"{name} is switched off ({visible(reason, longest=MOST_OF_A_REASON).rstrip('.')}){others}")
    return "; ".join(parts) or "there is none for its family"


def explain(library: Library, request: RenderRequest) -> list[TemplateMatch]:
    """The match of every template, in the order in which they are tried; the first that serves is taken."""
    features = features_of(request)
    matches = [
        TemplateMatch(each.name, tuple(_select(library, each, request, features)[1])) for each in library.templates
    ]
    return matches + [TemplateMatch(name, (f"switched off: {reason}",)) for name, reason in library.disabled.items()]


def _select(
    library: Library, template: Template, request: RenderRequest, features: frozenset[Feature]
) -> tuple[Selection, list[str]]:
    reasons = _mismatches(library, template, request)
    own = set(template.manifest.serves.features)
    reasons += [f"it is for requests with {feature.value} only" for feature in sorted(own - features)]
    if reasons:
        # Every template is asked for every job: looking for its fragments would only cost time.
        return Selection(template, {}), reasons
    needed = {feature for feature in features - own if not template.ignores(feature)}
    if Feature.CONTROL in needed and request.control_file is None:
        reasons.append(f"there is no ControlNet for {request.control_type} on {request.model.kind}")
    selection = Selection(
        template,
        {dialect: _fragments(library, template, request, needed, dialect) for dialect in Dialect},
        library.samplers,
        library.schedulers,
    )
    absent = [each.field for each in template.bindings if each.optional and each.read(request, None) is None]
    if absent:
        reasons.append(f"the job has no {' and '.join(dict.fromkeys(absent))}")
    if request.control_type not in {None, *ANNOTATORS} and Feature.ANNOTATE not in selection.does_without:
        reasons.append(f"it can't make a map of the kind {request.control_type}")
    # One dialect that has every fragment is enough.
    lacking = [sorted(needed - {each.when for each in found} - OPTIONAL) for found in selection.fragments.values()]
    reasons += [f"no fragment adds {feature.value} to it" for feature in min(lacking, key=len)]
    return selection, reasons


def _is_for(template: Template, request: RenderRequest) -> bool:
    families = template.manifest.serves.families
    return not families or is_for(families, request.model.family)


def _mismatches(library: Library, template: Template, request: RenderRequest) -> list[str]:
    serves, model = template.manifest.serves, request.model
    reasons = []
    if not _is_for(template, request):
        reasons.append(f"it is not for {model.family.value}")
    elif lack := next(filter(None, map(library.unserved.get, lineage(model.family))), ""):
        reasons.append(lack)
    if serves.models and model.name not in serves.models:
        reasons.append(f"it is for {' and '.join(serves.models)} only")
    if request.workflow and request.workflow not in serves.workflows:
        reasons.append(f"it is not for the workflow {request.workflow}")
    if serves.workflows and not request.workflow:
        reasons.append(f"it is for the workflow {' or '.join(serves.workflows)} only")
    if request.mode not in serves.modes:
        reasons.append(f"it can't do {request.mode.value}")
    if missing := sorted(template.files.difference(model.files)):
        reasons.append(f"the model has no file for {' and '.join(missing)}")
    return reasons


def _fragments(
    library: Library, template: Template, request: RenderRequest, needed: set[Feature], dialect: Dialect
) -> tuple[Fragment, ...]:
    """For each feature the first fragment that fits, in splicing order."""
    ports = set(with_pinned(template.ports))
    chosen: dict[Feature, Fragment] = {}
    for fragment in library.fragments:
        if fragment.when not in needed or fragment.when in chosen:
            continue
        manifest = fragment.manifest
        fits = manifest.dialect in {None, dialect} and (
            not manifest.families or is_for(manifest.families, request.model.family)
        )
        reads = {*fragment.takes, *(source for source in fragment.gives.values() if isinstance(source, str))}
        if fits and reads <= ports:
            chosen[fragment.when] = fragment
            ports.update(fragment.gives)
    return tuple(chosen.values())
