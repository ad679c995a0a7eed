"""The shape of a manifest.yaml beside an export, of a template or of a fragment."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, PlainValidator, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from worker.workflows import Texts
from worker.workflows.types import Dialect, Family, Feature, Mode, fold_baseline

#: A known family; whoever names another one reads which there are.
KnownFamily = Annotated[
    Family, PlainValidator(lambda name: Family(fold_baseline(name) if isinstance(name, str) else name))
]


class ManifestModel(BaseModel, extra="forbid", frozen=True):
    """Base of everything in a manifest: unknown keys are mistakes."""


Plain = StrictBool | StrictInt | StrictFloat | StrictStr


class FieldRef(ManifestModel):
    """A field of the request, seen through a transform: a named one, a share of it, or one of two values."""

    from_: str = Field(alias="from")
    via: str | None = None
    #: this part of a number of steps, at least 1
    share: float | None = Field(default=None, gt=0, le=1)
    #: for a field that is true or false: the value in either case
    if_true: Plain | None = None
    if_false: Plain | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "FieldRef":
        if (self.if_true is None) is not (self.if_false is None) or type(self.if_true) is not type(self.if_false):
            raise ValueError("if_true and if_false go together, and are of one kind")
        if sum(each is not None for each in (self.via, self.share, self.if_true)) > 1:
            raise ValueError("name one of via, share, and if_true with if_false")
        return self


class Constant(ManifestModel):
    """The same value for every request."""

    value: Plain


BindValue = str | FieldRef | Constant


class Serves(ManifestModel):
    """Which requests a template may serve. A list that is not given restricts nothing."""

    families: list[KnownFamily] = []
    models: list[str] = []
    #: only requests that name one of these workflows
    workflows: list[str] = []
    modes: list[Mode] = Field(min_length=1)
    #: what the template does by itself; only requests with all of these
    features: list[Feature] = []


class Manifest(ManifestModel):
    """What templates and fragments have in common."""

    description: str = Field(min_length=1)
    #: title → the node classes it may have
    nodes: dict[str, Texts] = Field(min_length=1)
    #: `title.input` → where the value comes from
    bind: dict[str, BindValue] = {}


class TemplateManifest(Manifest):
    serves: Serves
    #: name → `title.output`
    ports: dict[str, str]
    #: titles of the export's own output nodes; the output fragment replaces them
    outputs: list[str] = Field(min_length=1)
    #: fields and features that the template leaves aside on purpose
    ignores: list[str] = []


class FragmentManifest(Manifest):
    when: Feature
    #: one instance for each element of this tuple of the request
    each: Literal["loras", "extra_sources", "face_fixers", "upscalers"] | None = None
    #: only these families; empty for all
    families: list[KnownFamily] = []
    #: only engines of this dialect; None for both
    dialect: Dialect | None = None
    #: splicing order, then by name
    order: int
    nodes: dict[str, Texts] = {}
    #: port → inputs that its source feeds
    takes: dict[str, Texts] = Field(default={}, alias="in")
    #: port → its source afterwards: `title.output`, or another port
    gives: dict[str, str] = Field(default={}, alias="out")
