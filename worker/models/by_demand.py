"""Which models are wanted on disk while demand chooses what is offered: few at first, more once they are asked for.

Named models are wanted in any case, and whatever is complete on disk may be offered. Of the others that the owner's
commands stand for, as many are fetched at once as are offered at a time; each further one only when demand asks for it,
within the owner's bound. Nothing is ever deleted.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from worker.config.schema import BridgeData
from worker.models.catalog.model_selection import ModelSelection
from worker.models.catalog.records import ModelRecord


@dataclass(frozen=True)
class Wanted:
    """`selection`: the models to serve or to fetch. `absent`: what may be fetched once it is asked for."""

    selection: ModelSelection
    absent: tuple[str, ...] = ()


def wanted_by_demand(
    config: BridgeData,
    selection: ModelSelection,
    is_complete: Callable[[ModelRecord], bool],
    *,
    granted: Collection[str] = (),
) -> Wanted:
    """What of the owner's choice is wanted now; all of it while demand does not choose.

    `granted`: models that demand has asked for, whether they could be fetched or not. Looks at many files.
    """
    if not config.chooses_by_demand:
        return Wanted(selection)
    resolution, known = selection.resolution, selection.known
    listed = [name for name in resolution.load if name not in resolution.named]
    unlisted = [name for name in resolution.eligible if name not in resolution.load and is_complete(known[name])]
    here = {name for name in listed if is_complete(known[name])}
    absent = [name for name in listed if name not in here]
    room = max(0, config.max_models_to_download - len(resolution.named) - len(here) - len(unlisted))
    to_begin_with = max(0, config.number_of_dynamic_models - len(here) - len(unlisted))
    fetched = [name for name in absent if name in granted] or absent[: min(to_begin_with, room)]
    load = [name for name in resolution.load if name in resolution.named or name in here or name in fetched]
    warnings = selection.warnings
    if absent and not load and not unlisted:
        which = "of those that the commands of models_to_load stand for"
        warnings += (
            f"No model {which} is on disk, and max_models_to_download lets none be fetched. Raise it, or name a model.",
        )
    return Wanted(
        replace(selection, resolution=replace(resolution, load=(*load, *unlisted)), warnings=warnings),
        tuple(name for name in absent if name not in fetched),
    )
