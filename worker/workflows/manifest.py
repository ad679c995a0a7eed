"""The shape of a manifest.yaml beside an export, of a template or of a fragment."""

from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from worker.workflows.families import Family
from worker.workflows.features import Feature
from worker.workflows.request import Mode


class Dialect(str, Enum):
    """Which nodes carry pictures in and out: our pack's, or those every ComfyUI has."""

    PACK = "pack"
    STOCK = "stock"


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


#: One text or a list of them.
Texts = Annotated[list[str], BeforeValidator(_listed)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldSource(Part):
    """A field through a named transform."""

    from_: str = Field(alias="from")
    via: str | None = None


class ConstantSource(Part):
    """The same value for every request."""

    value: StrictBool | StrictInt | StrictFloat | StrictStr


Source = str | FieldSource | ConstantSource


class Serves(Part):
    """Whose requests a template may take. A list that is not given restricts nothing."""

    families: list[Family] = []
    models: list[str] = []
    #: requests that name one of these workflows, and no others
    workflows: list[str] = []
    modes: list[Mode] = Field(min_length=1)
    #: what the template does by itself; requests without these are not for it
    features: list[Feature] = []


class Manifest(Part):
    """What templates and fragments have in common."""

    description: str = Field(min_length=1)
    #: title → the node classes it may have
    nodes: dict[str, Texts] = Field(min_length=1)
    #: `title.input` → where the value comes from
    bind: dict[str, Source] = {}


class TemplateManifest(Manifest):
    serves: Serves
    #: name → `title.output`
    ports: dict[str, str]
    #: titles of the export's own output nodes, whose place the output fragment takes
    outputs: list[str] = Field(min_length=1)
    #: fields and features that are left aside on purpose
    ignores: list[str] = []


class FragmentManifest(Manifest):
    when: Feature
    #: one instance for each element of this tuple of the request
    each: Literal["loras", "extra_sources", "face_fixers", "upscalers"] | None = None
    #: families it is for; all, if none are named
    families: list[Family] = []
    #: only where this dialect is spoken
    dialect: Dialect | None = None
    #: fragments are spliced in by this number, then by name
    order: int
    nodes: dict[str, Texts] = {}
    #: port → inputs that its source feeds
    takes: dict[str, Texts] = Field(default={}, alias="in")
    #: port → its source afterwards: `title.output`, or another port
    gives: dict[str, str] = Field(default={}, alias="out")
