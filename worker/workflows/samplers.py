"""The Horde's names of samplers and schedulers → ComfyUI's, and what a payload may ask of a sampler.

All of it is data, in comfy_workflows/samplers.yaml. An engine that lacks a sampler takes the nearest that it has.
"""

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import BaseModel, Field

from worker.workflows import coerce, read_packaged
from worker.workflows.families import FOLDER, TRAITS
from worker.workflows.node_classes import choices_of, snapshot
from worker.workflows.types import Family

#: dpm_adaptive within 5/4 of the steps asked for, as version 1.0 of the Horde's sampler execution contract wants it.
BOUNDED_SAMPLER: Final = "horde_dpm_adaptive"
CONTRACT_VERSION: Final = "1.0"
DEFAULT_SAMPLER: Final = "euler"
DEFAULT_SCHEDULER: Final = "normal"


class Option(BaseModel, extra="forbid", frozen=True):
    """What a sampler takes for one `sampler_*` of a payload: a number between two bounds, or one of a few names."""

    #: the parameter's name in ComfyUI, where it differs
    as_: str = Field(default="", alias="as")
    least: float = 0.0
    most: float = 0.0
    names: list[str] = []


class _Diverging(BaseModel, extra="forbid", frozen=True):
    sampler: str
    scheduler: str
    instead: str


class _Samplers(BaseModel, extra="forbid", frozen=True):
    renamed: dict[str, str]
    options: dict[str, dict[str, Option]]
    schedulers: list[str]
    from_our_nodes: list[str]
    instead: dict[str, str]
    diverging: list[_Diverging]


_DATA: Final = _Samplers.model_validate(read_packaged("samplers.yaml"), by_name=False)

#: The Horde's names that differ from ComfyUI's, in lower case.
RENAMED: Final[Mapping[str, str]] = _DATA.renamed
#: ComfyUI's own names, accepted as they are.
SAME_NAME: Final = frozenset(_DATA.options) - {*_DATA.from_our_nodes}
SCHEDULERS: Final = frozenset(_DATA.schedulers)
#: ComfyUI's sampler → name of an option, without `sampler_` → what it takes.
OPTIONS: Final[Mapping[str, Mapping[str, Option]]] = _DATA.options
#: Names that only an engine with our node pack has.
FROM_OUR_NODES: Final = frozenset(_DATA.from_our_nodes)
#: (sampler, scheduler) that gives colour noise → the scheduler to use instead.
DIVERGING: Final = {(each.sampler, each.scheduler): each.instead for each in _DATA.diverging}
#: Options that are whole numbers.
WHOLE: Final = frozenset({"order"})


def sampler_for(name: Any) -> str:
    """ComfyUI's sampler for a name in a payload; euler for an unknown one."""
    name = str(name or "").strip().lower()
    return RENAMED.get(name) or (name if name in SAME_NAME else DEFAULT_SAMPLER)


def scheduler_for(family: Family, *, asked: Any, karras: bool) -> str:
    """ComfyUI's scheduler: the family's own, else a known one that was asked for, else by the karras flag."""
    traits = TRAITS[family]
    asked = str(asked or "").strip().lower()
    asked = traits.schedulers.get(asked) or (asked if asked in SCHEDULERS else None)
    if traits.scheduler:
        return asked if asked and traits.scheduler_may_be_asked else traits.scheduler
    return asked or ("karras" if karras else DEFAULT_SCHEDULER)


def odd_schedulers() -> list[str]:
    """Schedulers of families' files that are not known here, as `file:key: what`: slips, or a newer engine's."""
    known = {*SCHEDULERS, *FROM_OUR_NODES, *choices_of(snapshot(), "KSampler", "scheduler")}
    return [
        f"{FOLDER}/{family.value}.yaml:{key}: {name} is no scheduler that is known here, and an engine without it "
        f"takes {DEFAULT_SCHEDULER}; there are {', '.join(sorted(known))}"
        for family, traits in TRAITS.items()
        for key, names in (("scheduler", [traits.scheduler]), ("schedulers", traits.schedulers.values()))
        for name in names
        if name and name not in known
    ]


def options_for(sampler: str, payload: Mapping[str, Any]) -> str:
    """What a payload's `sampler_*` ask of this sampler, as JSON for our node; "" for nothing.

    What the sampler does not take is left out, numbers are brought within its bounds, other names are dropped.
    """
    found: dict[str, Any] = {}
    for name, option in OPTIONS.get(sampler, {}).items():
        asked = payload.get(f"sampler_{name}")
        if asked is None or isinstance(asked, bool):
            continue
        if option.names:
            folded = coerce.text(asked).strip().lower()
            value: Any = folded if folded in option.names else None
        else:
            number = coerce.number(asked, math.nan, option.least, option.most)
            value = None if math.isnan(number) else int(number) if name in WHOLE else number
        if value is not None:
            found[option.as_ or name] = value
    return json.dumps(found, sort_keys=True) if found else ""


def for_engine(name: str, listed: Collection[str], default: str, *, lacking: Collection[str] = ()) -> str:
    """The name, or the nearest that an engine has which lists these and lacks those; `default` where it has none.

    Without a list any name is taken as it is.
    """
    while (listed and name not in listed) or name in lacking:
        if name not in _DATA.instead:
            return default
        name = _DATA.instead[name]
    return name


def is_cfg_plus_plus(sampler: str) -> bool:
    """Whether it is a CFG++ sampler, which reads the negative prompt even at cfg 1."""
    return sampler.endswith("_cfg_pp")
